# SPDX-License-Identifier: Apache-2.0
"""The initiator's side of CHAP, for tests: one stage of a login by hand.

    i = Initiator(port, IQN, name=NAME)
    login(i, "alice", "the secret of alice", offer="7,5")
    ... i is in full feature phase ...

Whatever is refused raises LoginRefused with the status.
"""
import hashlib

import initiator

DIGESTS = {5: "md5", 6: "sha1", 7: "sha256", 8: "sha3_256"}


def digest(algorithm, number, secret, challenge):
    return hashlib.new(DIGESTS[algorithm], bytes([number]) + secret + challenge).digest()


def binary(text):
    assert text[:2] == "0x", text
    return bytes.fromhex(text[2:])


def send_part(i, flags, text):
    """One login request and its response."""
    head = bytearray(i.pack(initiator.LOGIN | initiator.IMMEDIATE, flags, text,
                            ((20, 1 << 16), (24, i.cmdsn))))
    head[8:14] = i.isid
    head[14:16] = i.tsih_asked.to_bytes(2, "big")
    i.sock.sendall(head)
    pdu = i.receive()
    assert pdu.opcode == initiator.LOGIN_RESPONSE, pdu.bhs
    status = int.from_bytes(pdu.bhs[36:38], "big")
    if status:
        raise initiator.LoginRefused(hex(status))
    i.login_flags = pdu.flags
    i.tsih, i.exp_statsn = int.from_bytes(pdu.bhs[14:16], "big"), pdu.word(24) + 1
    return pdu


def request(i, flags, keys):
    """A login request, in as many PDUs as its text takes, and its response: the keys; the flags are
    left in i.login_flags."""
    text = b"".join(f"{k}={v}".encode() + b"\0" for k, v in keys)
    while len(text) > 8192:
        pdu = send_part(i, 0x40 | flags & 0xC, text[:8192])
        assert not pdu.data, pdu.data
        text = text[8192:]
    pdu = send_part(i, flags, text)
    return dict(p.decode().split("=", 1) for p in pdu.data.split(b"\0") if p)


def login(i, user, secret, offer="5,6,7,8", mutual=None, discovery=False, reflect=False):
    """Through security to full feature phase: the algorithm that was chosen. mutual: the name and
    secret that the target has to prove; reflect: its own challenge is sent back to it."""
    names = [("InitiatorName", i.name), ("SessionType", "Discovery" if discovery else "Normal")]
    if not discovery:
        names.append(("TargetName", i.iqn))
    got = request(i, 0x81, names + [("AuthMethod", "CHAP,None")])
    assert got["AuthMethod"] == "CHAP" and i.login_flags == 0, (got, i.login_flags)
    got = request(i, 0, [("CHAP_A", offer)])
    algorithm, theirs = int(got["CHAP_A"]), binary(got["CHAP_C"])
    keys = [("CHAP_N", user), ("CHAP_R", "0x" + digest(
        algorithm, int(got["CHAP_I"]), secret.encode(), theirs).hex())]
    ours = theirs if reflect else b"\x17" * 1024  # as long as it may be
    if mutual or reflect:
        keys += [("CHAP_I", "99"), ("CHAP_C", "0x" + ours.hex())]
    got = request(i, 0x83, keys)
    assert i.login_flags == 0x83, i.login_flags
    if mutual:
        assert got["CHAP_N"] == mutual[0], got
        assert binary(got["CHAP_R"]) == digest(algorithm, 99, mutual[1].encode(), ours)
    i.itt += 1
    i.agreed["InitialR2T"] = "Yes"
    return algorithm
