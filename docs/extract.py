#!/usr/bin/env python3
"""Extracts the newest tree of a sheaf drive from its store. Made from docs/FORMAT.md alone, to show that the text suffices.

    extract.py [options] STORE DEST       extract to DEST, which is empty or not there yet
    extract.py [options] --list STORE     print: kind and mode, user, group, size, time, path

--secret-file FILE has the passphrase (-: standard input; none: the terminal). With --words LIST the secret is the 24 recovery
words, and LIST a file of all words. --device NAME takes the tree of one device, where several have written at the same time.
--verify also checks that each pack's name is its hash. Needs Debian's python3-cryptography, python3-argon2, python3-zstandard.
"""
import argparse, contextlib, functools, getpass, hashlib, operator, os, re, stat, struct, sys
from array import array
from pathlib import Path
try:
    from argon2.low_level import hash_secret_raw, Type
    from cryptography.exceptions import InvalidSignature, InvalidTag
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from zstandard import ZstdDecompressor, ZstdError
except ImportError as e:
    sys.exit(f"{e}: apt-get install python3-cryptography python3-argon2 python3-zstandard")
SEGMENT, DATA, DIR, FILE, SNAPSHOT, HEX = 131072, 1, 2, 3, 4, "[0-9a-f]"
class Damage(Exception): pass
BAD = Damage, InvalidTag, InvalidSignature, ZstdError, KeyError, IndexError, TypeError, ValueError, struct.error
def say(e): return str(e) if isinstance(e, Damage) else f"it is not what it should be ({type(e).__name__} {e})"
def u32(n): return n.to_bytes(4, "big")
def number(b): return int.from_bytes(b, "big")
def need(ok, what):
    if not ok: raise Damage(what)

# BLAKE3. Many blocks are compressed at once: a word of the state is one large integer, with a lane of 64 bits for each block.
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
START, END, PARENT, ROOT, KEYED, CONTEXT, MATERIAL = 1, 2, 4, 8, 16, 32, 64
MIX = (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)
PERM = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
def mix(v, m, mask, turns):
    """One round of BLAKE3 with the words m, or two of ChaCha20 with zeros: they differ in how far they turn."""
    for i, (a, b, c, d) in enumerate(MIX):
        for x, r1, r2 in ((m[2 * i], *turns[:2]), (m[2 * i + 1], *turns[2:])):
            v[a] = v[a] + v[b] + x & mask
            y = v[d] ^ v[a]
            v[d] = (y >> r1 | y << 32 - r1) & mask
            v[c] = v[c] + v[d] & mask
            y = v[b] ^ v[c]
            v[b] = (y >> r2 | y << 32 - r2) & mask
def compress(cv, m, counter, size, flags, ones=1):
    """The 16 words after the rounds. ones has a 1 in each lane."""
    mask = ones * 0xFFFFFFFF
    v = [*cv, *(ones * x for x in IV[:4]), counter & mask, counter >> 32 & mask, ones * size, ones * flags]
    for _ in range(7):
        mix(v, m, mask, (16, 12, 8, 7))
        m = [m[i] for i in PERM]
    return [v[i] ^ v[i + 8] for i in range(8)] + [v[i + 8] ^ cv[i] for i in range(8)]
def chaining(words, key, flags, blocks):
    """The chaining values of chunks (16 blocks) or parents (1) that lie end to end in words."""
    out, step = array("I"), 16 * blocks
    for at in range(0, len(words), step * 1024):
        part = words[at:at + step * 1024]
        n = len(part) // step
        ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * n, "little")
        counter = int.from_bytes(array("Q", range(at // step, at // step + n)).tobytes(), "little") if blocks > 1 else 0
        cv, wide, m = [ones * k for k in key], array("I", bytes(8 * n)), [0] * 16
        for b in range(blocks):
            for w in range(16):
                wide[::2] = part[16 * b + w::step]
                m[w] = int.from_bytes(wide.tobytes(), "little")
            edge = START * (b == 0) | END * (b == blocks - 1) if blocks > 1 else 0
            cv = compress(cv, m, counter, 64, flags | edge, ones)[:8]
        values = array("I", bytes(32 * n))
        for w in range(8): values[w::8] = array("I", cv[w].to_bytes(8 * n, "little"))[::2]
        out += values
    return out
def blake3(data, key=IV, flags=0, size=32):
    n = max(0, len(data) - 1) // 1024  # chunks before the last
    cvs = chaining(array("I", data[:1024 * n]), key, flags, 16)
    tail, cv = data[1024 * n:], key
    for at in range(0, max(1, len(tail)), 64):
        block, last = tail[at:at + 64], at + 64 >= len(tail)
        node = cv, struct.unpack("<16I", block.ljust(64, b"\0")), n, len(block), flags | START * (at == 0) | END * last
        cv = compress(*node)[:8]
    while cvs:  # node is the last of its level, cvs are those before
        if len(cvs) // 8 % 2:
            node = key, [*cvs[-8:], *compress(*node)[:8]], 0, 64, flags | PARENT
            del cvs[-8:]
        cvs = chaining(cvs, key, flags | PARENT, 1)
    cv, words, _, length, flags = node
    return b"".join(struct.pack("<16I", *compress(cv, words, i, length, flags | ROOT)) for i in range(-(-size // 64)))[:size]
def keyed(key, data): return blake3(data, struct.unpack("<8I", key), KEYED)
def derive(context, material, size=32):
    return blake3(material, struct.unpack("<8I", blake3(b"sheaf/v1/" + context.encode(), IV, CONTEXT)), MATERIAL, size)
def unbox(key, aad, sealed):
    """XChaCha20-Poly1305 behind its nonce: HChaCha20 makes the key and the nonce of the cipher that the library has."""
    v = list(struct.unpack("<16I", b"expand 32-byte k" + key + sealed[:16]))
    for _ in range(10): mix(v, [0] * 16, 0xFFFFFFFF, (16, 20, 24, 25))
    return ChaCha20Poly1305(struct.pack("<8I", *v[:4], *v[12:])).decrypt(bytes(4) + sealed[16:24], sealed[24:], aad)
def item(b, at):
    """The item of canonical CBOR at b[at], and where it ends."""
    kind, n, at = b[at] >> 5, b[at] & 31, at + 1
    if kind == 7 and n in (20, 21): return n == 21, at
    need(kind < 6 and n < 28, "a record has a value that is not allowed")
    if n >= 24:
        size, least = 1 << n - 24, (24, 1 << 8, 1 << 16, 1 << 32)[n - 24]
        n, at = number(b[at:at + size]), at + size
        need(at <= len(b) and n >= least, "a record has a number that is cut off or too long")
    need(n < 1 << 63 if kind == 1 else kind == 0 or n <= len(b) - at, "a record has a number that is out of range, or is cut off")
    if kind < 2: return -1 - n if kind else n, at
    if kind < 4: return b[at:at + n] if kind == 2 else b[at:at + n].decode(), at + n
    items = []
    for _ in range(n * (kind - 3)):
        v, at = item(b, at)
        items.append(v)
    if kind == 4: return items, at
    keys = items[::2]
    need(all(type(k) is int and 0 <= k <= 1 << 62 for k in keys) and keys == sorted(set(keys)), "a map's keys are not in order")
    return dict(zip(keys, items[1::2])), at
def record(b, keys, required=None):
    """The one map in b, with all of keys, which may be by format, or with those that are required."""
    v, end = item(b, 0)
    need(end == len(b) and isinstance(v, dict), "a record is not what it should be")
    if required is None:
        keys = required = (keys if isinstance(keys, dict) else {1: keys}).get(v.get(1, 1), ())
        need(keys, "this drive has a newer format")
    need(set(required) <= v.keys() <= set(keys), "a record has other keys than it should")
    return v
def signed(r, public):
    """Whether a record was signed with a key."""
    with contextlib.suppress(InvalidSignature): return Ed25519PublicKey.from_public_bytes(public).verify(*r["signed"]) is None
def open_chunk(ref, sealed):
    """The plain bytes of a whole sealed chunk."""
    size, kind = number(ref[64:68]), ref[68]
    n = -(-size // SEGMENT)
    need(size <= 1 << 24 and blake3(sealed) == ref[:32], "its hash is not its ID")
    s = derive("chunk-split", ref[32:64], 77)
    suite = sealed[32] ^ s[76]
    need(len(sealed) >= 56 + 3 * n and sealed[:32] == s[44:76] and suite in (1, 2), "it does not fit its key")
    aead = (AESGCM, ChaCha20Poly1305)[suite - 1](s[:32])
    def part(i, begin, end):
        nonce = s[32:40] + bytes(x ^ y for x, y in zip(s[40:44], u32(i)))
        aad = b"sheaf/v1/chunk" + bytes([suite, kind]) + s[44:76] + ref[64:68] + bytes([i == n])
        return aead.decrypt(nonce, sealed[begin:end], aad)
    at, head, out = 56 + 3 * n, part(0, 33, 56 + 3 * n), b""
    need(head[:2] == bytes([1, kind]) and head[2] < 2 and head[3:7] == ref[64:68], "its head does not fit its ref")
    lengths = [number(head[i:i + 3]) for i in range(7, 7 + 3 * n, 3)]
    need(len(sealed) == at + sum(lengths) + 16 * n, "it has another length than its table says")
    for i, length in enumerate(lengths):
        plain = min(SEGMENT, size - i * SEGMENT)
        need(1 <= length <= plain and (head[2] or length == plain), "its table is wrong")
        p, at = part(i + 1, at, at + length + 16), at + length + 16
        p = p if length == plain else ZstdDecompressor(max_window_size=SEGMENT).stream_reader(p).read(plain + 1)
        need(len(p) == plain, "a segment does not decode")
        out += p
    return out

class Store:
    def __init__(self, folder, secret, words, verify):
        self.folder, self.verify, self.chunks = Path(folder), verify, {}
        self.unlock(secret, words)
        for path in sorted(self.folder.glob("packs/" + 2 * HEX + "/" + 64 * HEX)):
            try: self.read_pack(path)
            except BAD as e: print(f"pack {path.name} is passed over: {say(e)}", file=sys.stderr)
    def names(self, folder, pattern):
        """The blobs in a folder of the bucket, in order, second copies left out."""
        return sorted(n for n in {p.name.removesuffix(".2") for p in (self.folder / folder).glob("*")} if re.fullmatch(pattern, n))
    def unlock(self, secret, words):
        """The account root and the ID of the drive, from a key slot that counts."""
        for name in sorted(p.name for p in (self.folder / "keys").glob("*"))[:32]:
            b = (self.folder / "keys" / name).read_bytes()
            with contextlib.suppress(*BAD):
                n = number(b[8:12])
                m = b[12:12 + n]
                s = record(m, range(1, 9), {1, 2, 3, 4, 6, 7, 8})
                need(len(b) == 1024 and b[:8] == b"SHEAFKEY" and n <= 1012 and not any(b[12 + n:]) and s[3].hex() == name[:32], "form")
                need((s[1], s[4], 5 in s, *(len(s[k]) for k in (2, 6, 7, 8))) == (1, 1 + words, not words, 16, 32, 72, 32), "form")
                material = secret
                if not words:
                    algorithm, memory, passes, threads = s[5]
                    need(algorithm == 1 and 1 << 16 <= memory <= 1 << 22 and 3 <= passes <= 64 and 1 <= threads <= 64, "cost")
                    material = hash_secret_raw(secret, s[6], passes, memory, threads, 32, Type.ID, 19)
                kek = derive("slot-recovery" if words else "slot-passphrase", material + s[6] + s[2])
                root = unbox(kek, bytes([m[0] - 2]) + m[1:-110], s[7])
                need(keyed(derive("root-slots", root), bytes([m[0] - 1]) + m[1:-35]) == s[8], "mac")
                self.root, self.drive = root, s[2]; break
        else: raise Damage("wrong passphrase or words, or no key slot is here")
        self.read_drive(); self.read_members()
        need(b in self.slots, "wrong passphrase or words: this key slot counts no more")
    def blob(self, name, keys, kind, purpose, last, signer=None, limit=1 << 20):
        """Opens a sealed blob, or its second copy: its epoch, record and hash. keys gives the keys of an epoch."""
        for path in (name, name + ".2"):
            try:
                b = (self.folder / path).read_bytes()
                need(1024 <= len(b) <= limit and b[:4] == b"SHB\1", "it is no sealed blob")
                epoch, p = number(b[4:8]), None
                for k in keys(epoch):
                    with contextlib.suppress(InvalidTag): p = unbox(k, b[:8] + f"sheaf/v1/{kind}\0{name}".encode(), b[8:])
                n = number(p[:4])
                (body, signature), end = item(p[4:4 + n], 0)
                need(end == n and not any(p[4 + n:]), "it is no signed record, or its padding is wrong")
                r = record(body, {f: range(1, n + 1) for f, n in enumerate(last, 1)})
                r["signed"] = signature, b"sheaf/v1/signature\0" + purpose.encode() + b"\0" + body
                need(signer is None or signed(r, signer), "its signature is wrong")
                return epoch, r, blake3(p[4:4 + n])
            except (*BAD, FileNotFoundError) as e: problem = say(e)
        raise Damage(f"{name}: {problem}")
    def keys(self, x, epoch):
        need(epoch in self.secrets, f"epoch {epoch} is not known: an entry of the members log is missing")
        return [derive(x, s + self.drive + u32(epoch)) for s in self.secrets[epoch].values()]
    def read_drive(self):
        key, owner, before = derive("root-record", self.root + self.drive), derive("root-owner", self.root), None
        self.owner = Ed25519PrivateKey.from_private_bytes(owner).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        for name in self.names("drive", HEX + "{8}"):
            epoch, r, digest = self.blob("drive/" + name, lambda e: [key], "root-record", "drive-record", [9], self.owner)
            need((epoch, r[2], r[3], r[8]) == (0, self.drive, int(name, 16), self.owner), f"drive/{name} is of another place")
            need(r[4] == (before or r[4]) and (r[3] > 1 or not any(r[4])), f"drive/{name}: the chain is broken"); before = digest
        need(before, "the drive record is missing")
        self.secrets = {}  # by number, then by the entry that began the epoch
        self.begin_epoch(bytes(32), 1, None, r[9])
    def begin_epoch(self, entry, n, digest, box):
        with contextlib.suppress(InvalidTag):
            s = unbox(derive("root-drive", self.root + self.drive), self.drive + u32(n), box)
            if digest in (None, derive("epoch-sum", s + self.drive + u32(n))): self.secrets.setdefault(n, {})[entry] = s
    def read_members(self):
        todo, log, self.before = self.names("members", HEX + "{32}"), {}, {}
        while todo:  # an entry may begin the epoch that another is sealed under
            rest = []
            for name in todo:
                try: epoch, r, digest = self.blob("members/" + name, lambda e: self.keys("members", e), "members", "member", [17])
                except Damage as e: rest, problem = [*rest, name], e; continue
                need((digest[:16].hex(), r[2], r[3]) == (name, self.drive, epoch), f"members/{name} is of another place")
                log[digest] = r
                if r[5] in (2, 3) and not any(r[11]) and signed(r, self.owner): self.begin_epoch(digest, *r[15][:3])
            need(len(rest) < len(todo), problem if rest else ""); todo = rest
        need(all(p in log for r in log.values() for p in r[4]), "an entry of the members log is missing")
        depth = functools.cache(lambda h: 1 + max(map(depth, log[h][4]), default=0))
        self.devices, self.revoked, public, void, slots, gone = {}, {}, {}, set(), set(), set()
        order = sorted(log, key=lambda h: (depth(h), h))
        for h in order:  # what it comes after, and itself; who signed it; and who is revoked by it
            r, owner = log[h], not any(log[h][11])
            self.before[h] = {h}.union(*(self.before[p] for p in r[4]))
            keys, named = ([k for a, k in public.get(r[i], ()) if a in self.before[h]] for i in (11, 6))
            right = owner or keys and r[4] and r[5] == 1
            if not right or not signed(r, self.owner if owner else keys[0]) or r[5] == 2 and not named: void.add(h)
            elif r[5] == 1: public.setdefault(r[6], []).append((h, r[7]))
            elif r[5] == 2: self.revoked.setdefault(r[6], []).append(h)
            need(r[5] != 1 or r[6] == blake3(r[7] + r[8])[:16], "a device has another ID than its keys")
        for h in order:
            r, by, d = log[h], self.devices.get(log[h][11]), self.devices.get(log[h][6])
            ends = any(h not in self.before[x] for x in self.revoked.get(r[11], ()))
            if h in void or any(r[11]) and (ends or not (by and by["roles"] & 2 and by["added"] & self.before[h])): continue
            if r[5] == 1 and d: d["added"].add(h)
            elif r[5] == 1 and any(r[6][:8]) and r[6][:8] not in {x[:8] for x in self.devices}:
                last = max((log[x][13] for x in self.revoked.get(r[6], ())), default=None)
                self.devices[r[6]] = {"public": r[7], "name": r[9], "roles": r[10], "added": {h}, "last": last}
            slots, gone = slots | set(r[16]), gone | set(r[17])
        self.slots = {b for b in slots if record(b[12:12 + number(b[8:12])], range(1, 9), {3})[3] not in gone}
    def heads(self):
        """The newest head of each device that counts, by the device's ID."""
        found, hashes = {}, {}
        for device, d in self.devices.items():
            folder, before = "heads/" + keyed(self.keys("head-name", 1)[0], device)[:16].hex(), None
            for name in self.names(folder, HEX + "{16}"):
                if d["last"] and int(name, 16) > d["last"][0]: break
                path = f"{folder}/{name}"
                epoch, r, digest = self.blob(path, lambda e: self.keys("head", e), "head", "head", [11, 13, 14], d["public"], SEGMENT)
                need([r[2], r[3], r[4], r[5]] == [self.drive, epoch, device, int(name, 16)], path + ": it is of another place")
                need(r[6] == (before or r[6]) and (r[5] == 1) != any(r[6]), path + ": the chain is broken")
                need(all(h in self.before for h in r[9]), path + ": an entry of the members log is missing that it names")
                log = set().union(*(self.before[h] for h in r[9]))
                need(d["added"] & log and not log & set(self.revoked.get(device, ())) and d["roles"] & 1, path + ": it is not by a writer")
                found[device], before, hashes[device, r[5]] = r, digest, digest
            need(not d["last"] or not d["last"][0] or before == d["last"][1], folder + ": the last head that counts is missing")
        for device, (seq, digest) in (seen for r in found.values() for seen in r[10]):
            d = self.devices.get(device)
            need(not d or d["last"] or device in found and found[device][5] >= seq, "the store hides a head that another device has seen")
            need(hashes.get((device, seq), digest) == digest, "the store has shown different heads to different devices")
        return found
    def read_pack(self, path):
        size, e = path.stat().st_size, path.stat().st_size.bit_length() - 1
        need(path.parent.name == path.name[:2], "it is in another place")
        need(1 << 15 <= size <= 1 << 25 and size % (1 << e - e.bit_length()) == 0, "its size is not allowed")
        need(not self.verify or blake3(path.read_bytes()).hex() == path.name, "its name is not its hash")
        aad = b"SHEAFPK1" + size.to_bytes(8, "big")
        with path.open("rb") as f:
            magic, footer = f.read(8), b""
            f.seek(size - 128); sealed = f.read()
            for key in (k for epoch in sorted(self.secrets, reverse=True) for k in self.keys("packdir", epoch)):
                with contextlib.suppress(InvalidTag):
                    footer = unbox(key, b"sheaf/v1/pack-footer" + aad, sealed)
                    break
            need(magic == b"SHEAFPK1" and len(footer) == 88 and not any(footer[48:]), "its footer does not open")
            n, end, off, length = struct.unpack(">4I", footer[:16])
            need(n and end <= off and length == 40 + 105 * n and off + length == size - 128, "its footer is wrong")
            f.seek(off); sealed = f.read(length)
        need(blake3(sealed) == footer[16:48], "its directory is damaged")
        at = 8
        for ID, length in struct.iter_unpack(">32s69xI", unbox(key, b"sheaf/v1/pack-directory" + aad, sealed)):
            self.chunks.setdefault(ID, []).append((path, at, length)); at += length
        need(at == end, "its directory is wrong")
    def chunk(self, ref, kind):
        """The plain bytes of a ref, from the first pack that has them whole."""
        need(len(ref) == 69 and ref[68] == kind, "a ref is of a wrong kind")
        problem = "no pack has it"
        for path, at, length in self.chunks.get(ref[:32], ()):
            with path.open("rb") as f:
                f.seek(at)
                try: return open_chunk(ref, f.read(length))
                except BAD as e: problem = say(e)
        raise Damage(f"chunk {ref[:32].hex()}: {problem}")
    def node(self, ref, kind, level=None):
        """The items of the leaves below a node, checked against what inner nodes say of them."""
        n = record(self.chunk(ref, kind), (1, 2), (1, 2))
        need(n[2] and n[1] < 32 and level in (None, n[1]), "a node has no items, or another level")
        need(n[1] == 0 or level is not None or len(n[2]) > 1, "an inner node at the top has one child")
        if n[1] == 0: yield from n[2]
        for x in n[2] if n[1] else ():
            below = list(self.node(x[kind == DIR], kind, n[1] - 1))
            true = ([below[0][1], x[1], len(below), flags(below)] if kind == DIR else
                    [x[0], sum(i if isinstance(i, int) else number(i[64:68]) for i in below)])
            need(x == true, "an inner node says what is not true")
            yield from below
def flags(entries):
    return functools.reduce(operator.or_, ((24 in e or 26 in e) | (3 in e) << 1 | (27 in e) << 2 | e.get(28, 0) for e in entries), 0)
def walk(store, top, path, ref, said, links):
    """Extracts the directory ref to path below top, or prints it if top is None."""
    entries, last = list(store.node(ref, DIR)) if ref else [], b""
    need(flags(entries) == said, "the flags of a directory are not true")
    for e in entries:
        need({1, 2, 4} <= e.keys() <= set(range(1, 29)) and 1 <= e[4] <= 7, "an entry is wrong")
        need(last < e[1] and len(e[1]) <= 255 and not set(e[1]) & {0, 47} and e[1] not in (b".", b".."), "a name is wrong")
        last, name, kind = e[1], os.path.join(path, e[1]), e[4]
        full = os.path.join(top or b"", name)
        # The names of one file; where size and node differ, they are files of their own.
        first = links.setdefault((e[3], e.get(9), e.get(11)), full) if 3 in e else full
        if top is None:
            at, target = when(e, 13) // 10**9, f" -> {os.fsdecode(e[12])!a}" if 12 in e else ""
            print(f"{'-dlpscb'[kind - 1]}{e.get(5, 0):04o} {e.get(6, 0):5} {e.get(7, 0):5} {e.get(9, 0):12} {at:11} "
                  f"{os.fsdecode(name)!a}{target}" + (f" = {os.fsdecode(first)!a}" if first != full else ""))
        elif first != full:
            os.link(first, full, follow_symlinks=False)
            continue
        elif kind == 1:
            with open(full, "xb") as f:
                ref = e.get(11)
                for x in [] if not ref else [ref] if ref[68] == DATA else store.node(ref, FILE):
                    f.seek(x, 1) if isinstance(x, int) else f.write(store.chunk(x, DATA))
                need(f.tell() <= e.get(9, 0), "a file is shorter than its extents")
                f.truncate(e.get(9, 0))
        elif kind == 2: os.mkdir(full, 0o700)
        elif kind == 3: os.symlink(e[12], full)
        else: attempt(full, os.mknod, 0o600 | (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)[kind - 4], e.get(8, 0))
        if kind == 2: walk(store, top, name, e.get(11), e.get(28, 0), links)
        if top and os.path.lexists(full): attributes(full, e)
def when(e, key):
    t = e.get(key, 0)
    return t if isinstance(t, int) else t[0] * 10**9 + t[1]
def attempt(path, what, *args, **named):
    """Does what a user or a file system may not be able to do."""
    try: what(path, *args, **named)
    except (OSError, OverflowError) as e: print(f"{os.fsdecode(path)!a}: {what.__name__}: {e}", file=sys.stderr)
def attributes(path, e):
    if os.geteuid() == 0: attempt(path, os.chown, e.get(6, 0), e.get(7, 0), follow_symlinks=False)
    if e[4] != 3: attempt(path, os.chmod, e.get(5, 0))
    for name, value in zip(*[iter(e.get(17, []))] * 2): attempt(path, os.setxattr, name, value, follow_symlinks=False)
    if 13 in e: attempt(path, os.utime, ns=(when(e, 15 if 15 in e else 13), when(e, 13)), follow_symlinks=False)
def entropy(words, known):
    """The 32 bytes of the recovery words."""
    need(len(known) == 2048 and len(words) == 24 and set(words) <= set(known), "these are not 24 words of the list")
    n = sum(known.index(w) << 11 * (23 - i) for i, w in enumerate(words))
    b = (n >> 8).to_bytes(32, "big")
    need(hashlib.sha256(b).digest()[0] == n & 255, "the checksum of the words is wrong")
    return b
def newest(store, name):
    """The ref of the snapshot that has seen all others, or of that of one device."""
    heads = {d: r for d, r in store.heads().items() if name in (None, store.devices[d]["name"])}
    need(heads, "there is no head: nothing was committed")
    for r in heads.values():
        if all(dict(r[8]).get(k, 0) >= n for other in heads.values() for k, n in other[8]): return r[7]
    raise Damage("no tree has the changes of all devices: choose a --device, " + ", ".join(store.devices[d]["name"] for d in heads))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--list", "--verify"): p.add_argument(flag, action="store_true")
    for flag in ("--secret-file", "--words", "--device", "store"): p.add_argument(flag)
    p.add_argument("dest", nargs="?", type=os.fsencode)
    o = p.parse_args()
    if bool(o.dest) == o.list: p.error("say either DEST or --list")
    sys.setrecursionlimit(20000)
    secret = (sys.stdin.buffer.read() if o.secret_file == "-" else Path(o.secret_file).read_bytes() if o.secret_file
              else getpass.getpass("The 24 words: " if o.words else "Passphrase: ").encode()).removesuffix(b"\n")
    if o.words: secret = entropy(secret.lower().split(), Path(o.words).read_bytes().split())
    store = Store(o.store, secret, bool(o.words), o.verify)
    snapshot = record(store.chunk(newest(store, o.device), SNAPSHOT), range(1, 12), ())
    if o.dest:
        os.makedirs(o.dest, exist_ok=True)
        need(not os.listdir(o.dest), "the destination is not empty")
    walk(store, o.dest, b"", snapshot.get(1), snapshot.get(5, 0), {})
    if o.dest and 11 in snapshot: attributes(o.dest, record(snapshot[11], range(1, 29), {1, 2, 4}))

if __name__ == "__main__":
    try: main()
    except BAD as e: sys.exit("damaged: " + say(e))
    except OSError as e: sys.exit(str(e))
