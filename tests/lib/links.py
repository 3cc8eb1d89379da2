# SPDX-License-Identifier: Apache-2.0
"""A session of several connections, for tests of error recovery: ErrorRecoveryLevel and
MaxConnections as the keys ask for.

    s = Session(port, IQN, {"ErrorRecoveryLevel": "2", "MaxConnections": "8"})
    a = s.link()                     # the leading connection, CID 1
    b = s.link()                     # one more
    itt = a.begin(cdb, out=data)     # CmdSN and task tags are the session's
    a.kill()                         # as if its cable was cut
    assert b.recover(a.cid) == 0     # logout for recovery
    assert b.reassign(itt) == 0
    b.finish(itt, data)

A link acknowledges what it has received (ExpStatSN) with each PDU it sends, unless acks is False.
"""
import struct

import initiator
from initiator import FINAL, IMMEDIATE, NONE, Initiator

REASSIGN = 8
DATA, STATUS, DATA_ACK, RESEGMENT = range(4)


class Session:
    def __init__(self, port, iqn, keys=None, name="iqn.2024-01.test:links"):
        self.port, self.iqn, self.keys, self.name = port, iqn, dict(keys or {}), name
        self.isid = b"\x80" + next(Initiator.serials).to_bytes(5, "big")
        self.cmdsn, self.itt, self.tsih, self.cid = 1, 1, 0, 0
        self.agreed = {}
        self.max_cmdsn, self.exp_cmdsn = 1, 1
        self.links = {}  # the last one of each CID

    def link(self, cid=None, keys=None):
        """One more connection, logged in; the first one leads."""
        if cid is None:
            self.cid += 1
            cid = self.cid
        link = Link(self, cid, self.keys if self.tsih == 0 else keys)
        link.login(tsih=self.tsih)
        if self.tsih == 0:
            self.tsih, self.agreed = link.tsih, link.agreed
        else:
            link.answered = link.agreed
            link.agreed = {**self.agreed, **{k: link.agreed[k] for k in DIGESTS}}
        return link

    def ready(self):
        """The leading connection, with the unit attentions over."""
        link = self.link()
        settle(link)
        return link


DIGESTS = ("HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength")
CONNECTION_KEYS = DIGESTS + ("AuthMethod",)


def settle(link):
    while link.run(b"\0" * 6).status:
        pass


class Link(Initiator):
    acks, first_statsn = True, 0

    def __init__(self, session, cid, keys=None):
        self.session = session
        own = {k: v for k, v in session.keys.items() if k in CONNECTION_KEYS}
        super().__init__(session.port, session.iqn, {**own, **(keys or {})}, session.name,
                         session.isid)
        self.cid = cid
        session.links[cid] = self

    # CmdSN and task tags are the session's.
    cmdsn = property(lambda self: self.session.cmdsn,
                     lambda self, value: setattr(self.session, "cmdsn",
                                                 max(value, self.session.cmdsn)))
    itt = property(lambda self: self.session.itt,
                   lambda self, value: setattr(self.session, "itt",
                                               max(value, self.session.itt)))

    def pack(self, opcode, flags, data=b"", fields=(), lun=0, itt=None, ahs=b""):
        named = dict(fields)
        if opcode & 0x3F not in (initiator.LOGIN, initiator.LOGOUT):
            named[28] = self.acknowledged()
        return super().pack(opcode, flags, data, tuple(named.items()), lun, itt, ahs)

    def acknowledged(self):
        return self.exp_statsn if self.acks else self.first_statsn

    def take_pdu(self):
        pdu = super().take_pdu()
        if pdu is None:
            return pdu
        self.session.exp_cmdsn = pdu.word(28)
        if pdu.opcode == initiator.LOGIN_RESPONSE:
            return pdu
        self.session.max_cmdsn = max(self.session.max_cmdsn, pdu.word(32))
        numbered = pdu.opcode != initiator.R2T and (pdu.opcode != initiator.DATA_IN or
                                                    pdu.flags & 1)
        if numbered and pdu.word(24) == self.exp_statsn:
            self.exp_statsn += 1
        return pdu

    def acknowledge(self):
        """All that has come, without an answer."""
        self.acks = True
        self.send(initiator.NOP_OUT | IMMEDIATE, FINAL, b"", ((20, NONE), (24, self.cmdsn)),
                  itt=NONE)

    def kill(self):
        self.sock.close()

    def command_as(self, itt, cmdsn, cdb, edtl=0, flags=FINAL, data=b""):
        """With that task tag and CmdSN, the session's own left as they are."""
        words = struct.unpack(">4I", cdb.ljust(16, b"\0"))
        fields = [(20, edtl), (24, cmdsn)] + [(32 + 4 * n, w) for n, w in enumerate(words)]
        self.send(initiator.COMMAND, flags | 1, data, fields, itt=itt)

    def reserve(self):
        """A task tag and a CmdSN, to be used by whoever comes."""
        pair = self.session.itt, self.session.cmdsn
        self.session.itt += 1
        self.session.cmdsn += 1
        return pair

    def snack(self, kind, itt=NONE, begin=0, length=0, ttt=NONE, lun=0):
        self.send(initiator.SNACK, FINAL | kind, b"", ((20, ttt), (40, begin), (44, length)),
                  lun=lun, itt=itt)

    def tmf(self, function, ref_itt=NONE, exp_datasn=0, lun=0, ref_cmdsn=0):
        itt = self.itt
        self.itt += 1
        self.send(initiator.TMF | IMMEDIATE, FINAL | function, b"",
                  ((20, ref_itt), (24, self.cmdsn), (32, ref_cmdsn), (36, exp_datasn)), lun=lun,
                  itt=itt)
        return itt

    def reassign(self, ref_itt, exp_datasn=0):
        """The response of TASK REASSIGN."""
        itt = self.tmf(REASSIGN, ref_itt, exp_datasn)
        return self.response_to(itt, initiator.TMF_RESPONSE)

    def send_logout(self, reason, cid):
        itt = self.itt
        self.itt += 1
        exp_statsn = self.session.links.get(cid, self).acknowledged()
        self.send(initiator.LOGOUT | IMMEDIATE, FINAL | reason, b"",
                  ((20, cid << 16), (24, self.cmdsn), (28, exp_statsn)), itt=itt)
        return itt

    def log_out_of(self, reason, cid):
        return self.response_to(self.send_logout(reason, cid), initiator.LOGOUT_RESPONSE)

    def recover(self, cid):
        """Logout of another connection, for recovery: the response."""
        return self.log_out_of(2, cid)

    def response_to(self, itt, opcode):
        pdu = self.answer()
        assert pdu.opcode == opcode and pdu.itt == itt, (hex(pdu.opcode), pdu.itt, itt)
        return pdu.bhs[2]

    def text(self, pairs):
        """Keys in full feature phase: what comes back."""
        itt = self.itt
        self.itt += 1
        self.send(initiator.TEXT | IMMEDIATE, FINAL, "".join(p + "\0" for p in pairs).encode(),
                  ((20, NONE), (24, self.cmdsn)), itt=itt)
        pdu = self.answer()
        assert pdu.opcode == initiator.TEXT_RESPONSE and pdu.itt == itt, pdu.bhs
        return pdu.data
