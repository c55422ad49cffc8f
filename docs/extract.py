#!/usr/bin/env python3
"""Extracts the newest tree of a sheaf drive from its store, without sheaf.

It is written from docs/FORMAT.md alone, to show that the text suffices. Names are resolved in
the order in which the text says it: key slot, drive record, members, heads, snapshot, tree.

    extract.py STORE DEST           extract; DEST is empty or not there yet
    extract.py --list STORE         print the tree
    --secret-file FILE              read the passphrase or the words from FILE (-: stdin), not from a terminal
    --words                         the secret is the 24 recovery words (--wordlist: the English list of BIP-39)
    --device NAME                   the newest tree of this device, if several devices have each written
    --verify                        also check that each pack's name is its hash

On Debian: apt-get install python3-cryptography python3-argon2 python3-zstandard
"""
import argparse, errno, getpass, hashlib, os, stat, struct, sys, time
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


class Damage(Exception):
    pass


def need(ok, what):
    if not ok:
        raise Damage(what)


# BLAKE3. Many blocks are compressed at once: each state word is one large integer with a lane of
# 64 bits for each block, of which the lower 32 are used.

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
SEGMENT, DATA, DIR, FILE, SNAPSHOT = 131072, 1, 2, 3, 4
START, END, PARENT, ROOT, KEYED, CONTEXT, MATERIAL = 1, 2, 4, 8, 16, 32, 64
MIX = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
       (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
PERM = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)


def mix(v, m, mask, turns):
    """One round of BLAKE3 with the words m, or two of ChaCha with zeros: they differ in how far they turn."""
    for i, (a, b, c, d) in enumerate(MIX):
        va, vb, vc, vd = v[a], v[b], v[c], v[d]
        for x, r1, r2 in ((m[2 * i], *turns[:2]), (m[2 * i + 1], *turns[2:])):
            va = va + vb + x & mask
            vd ^= va
            vd = (vd >> r1 | vd << 32 - r1) & mask
            vc = vc + vd & mask
            vb ^= vc
            vb = (vb >> r2 | vb << 32 - r2) & mask
        v[a], v[b], v[c], v[d] = va, vb, vc, vd


def compress(cv, m, counter, size, flags, ones=1):
    """The 16 words after the rounds; ones has a 1 in each lane, and counter is of lanes too."""
    mask = ones * 0xFFFFFFFF
    v = [*cv, *(ones * x for x in IV[:4]), counter & mask, counter >> 32 & mask, ones * size, ones * flags]
    for _ in range(7):
        mix(v, m, mask, (16, 12, 8, 7))
        m = [m[i] for i in PERM]
    return [v[i] ^ v[i + 8] for i in range(8)] + [v[i + 8] ^ cv[i] for i in range(8)]


def lanes(words, first, step, n):
    """Words first, first+step, …, n of them, as lanes."""
    wide = array("I", bytes(8 * n))
    wide[::2] = words[first:first + step * n:step]
    return int.from_bytes(wide.tobytes(), "little")


def chaining(words, key, flags, blocks, counter):
    """The chaining values of inputs of so many blocks, which lie one after the other in words."""
    out = array("I")
    for at in range(0, len(words), 16 * blocks * 1024):
        part = words[at:at + 16 * blocks * 1024]
        n = len(part) // (16 * blocks)
        ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * n, "little")
        count = int.from_bytes(array("Q", range(counter, counter + n)).tobytes(), "little") if blocks > 1 else 0
        counter += n
        cv = [ones * k for k in key]
        for b in range(blocks):
            edge = (START * (b == 0) | END * (b == blocks - 1)) if blocks > 1 else 0
            m = [lanes(part, 16 * b + w, 16 * blocks, n) for w in range(16)]
            cv = compress(cv, m, count, 64, flags | edge, ones)[:8]
        some = array("I", bytes(32 * n))
        for w in range(8):
            some[w::8] = array("I", cv[w].to_bytes(8 * n, "little"))[::2]
        out += some
    return out


def blake3(data, key=IV, flags=0, size=32):
    n = max(0, len(data) - 1) // 1024  # chunks before the last
    cvs = chaining(array("I", bytes(data[:1024 * n])), key, flags, 16, 0)
    tail, cv = data[1024 * n:], key
    for at in range(0, max(1, len(tail)), 64):
        block = tail[at:at + 64]
        edge = START * (at == 0) | END * (at + 64 >= len(tail))
        node = cv, struct.unpack("<16I", bytes(block).ljust(64, b"\0")), n, len(block), flags | edge
        if at + 64 < len(tail):
            cv = compress(*node)[:8]
    while cvs:  # node is the rightmost of a level, cvs are all others
        if len(cvs) // 8 % 2:
            node = key, [*cvs[-8:], *compress(*node)[:8]], 0, 64, flags | PARENT
            del cvs[-8:]
        cvs = chaining(cvs, key, flags | PARENT, 1, 0)
    out = b""
    while len(out) < size:
        out += struct.pack("<16I", *compress(*node[:2], len(out) // 64, node[3], node[4] | ROOT))
    return out[:size]


def keyed(key, data):
    return blake3(data, struct.unpack("<8I", key), KEYED)


def derive(context, material, size=32):
    key = blake3(("sheaf/v1/" + context).encode(), flags=CONTEXT)
    return blake3(material, struct.unpack("<8I", key), MATERIAL, size)


def unbox(key, aad, sealed):
    """XChaCha20-Poly1305 behind its nonce of 24 bytes: HChaCha20 makes the key of the cipher that the library has."""
    need(len(sealed) >= 40, "a sealed record is too short")
    v = list(struct.unpack("<16I", b"expand 32-byte k" + key + sealed[:16]))
    for _ in range(10):
        mix(v, [0] * 16, 0xFFFFFFFF, (16, 20, 24, 25))
    try:
        return ChaCha20Poly1305(struct.pack("<8I", *v[:4], *v[12:])).decrypt(
            bytes(4) + sealed[16:24], bytes(sealed[24:]), aad)
    except InvalidTag:
        raise Damage("a sealed record does not open") from None


# Canonical CBOR.

def item(b, at):
    need(at < len(b), "a record is cut off")
    kind, n = b[at] >> 5, b[at] & 31
    at += 1
    if kind == 7:
        need(n in (20, 21), "a record has a value that is not allowed")
        return n == 21, at
    need(kind != 6 and n < 28, "a record has a value that is not allowed")
    if n >= 24:
        size = 1 << n - 24
        need(at + size <= len(b), "a record is cut off")
        n, at = int.from_bytes(b[at:at + size], "big"), at + size
        need(n >= (24, 1 << 8, 1 << 16, 1 << 32)[size.bit_length() - 1], "a number is not in its shortest form")
    if kind < 2:
        need(kind == 0 or n < 1 << 63, "a number is too small")
        return (-1 - n if kind else n), at
    need(n <= len(b) - at, "a record is cut off")
    if kind < 4:
        s = bytes(b[at:at + n])
        try:
            return (s if kind == 2 else s.decode()), at + n
        except UnicodeDecodeError:
            raise Damage("a text is not UTF-8") from None
    if kind == 4:
        a = []
        for _ in range(n):
            v, at = item(b, at)
            a.append(v)
        return a, at
    m, last = {}, -1
    for _ in range(n):
        k, at = item(b, at)
        need(type(k) is int and last < k <= 1 << 62, "the keys of a map are not in order")
        m[k], at = item(b, at)
        last = k
    return m, at


def uncbor(b, kind=dict, keys=None, required=None):
    """The one record in b. A map has all of required (all of keys, if that is None), and no other than keys."""
    v, end = item(b, 0)
    need(end == len(b) and isinstance(v, kind), "a record is not what it should be")
    if keys:
        need(v.get(1) == 1 or required is not None or v.get(1, 1) <= 1, "this drive has a newer format")
        need(set(keys if required is None else required) <= v.keys() <= set(keys), "a record has other keys")
    return v


def u32(n):
    return n.to_bytes(4, "big")


def open_chunk(ref, sealed):
    """Opens a whole sealed chunk, in the order of the section "Sealed chunk"."""
    need(blake3(sealed) == ref[:32], "its hash is not its name")
    size, kind = int.from_bytes(ref[64:68], "big"), ref[68]
    n = -(-size // SEGMENT)
    s = derive("chunk-split", ref[32:64], 77)
    need(size <= 1 << 24 and len(sealed) >= 56 + 3 * n and sealed[:32] == s[44:76], "it does not fit its key")
    suite = sealed[32] ^ s[76]
    need(suite in (1, 2), "its suite is unknown")
    aead = (AESGCM, ChaCha20Poly1305)[suite - 1](s[:32])

    def part(i, at, end):
        nonce = s[32:40] + bytes(x ^ y for x, y in zip(s[40:44], u32(i)))
        aad = b"sheaf/v1/chunk" + bytes([suite, kind]) + s[44:76] + ref[64:68] + bytes([i == n])
        try:
            return aead.decrypt(nonce, sealed[at:end], aad)
        except InvalidTag:
            raise Damage("a part of it does not open") from None

    at = 56 + 3 * n
    head, out = part(0, 33, at), b""
    need(head[:2] == bytes([1, kind]) and head[2] < 2 and head[3:7] == ref[64:68], "its head is wrong")
    lengths = [int.from_bytes(head[i:i + 3], "big") for i in range(7, 7 + 3 * n, 3)]
    need(len(sealed) == at + sum(lengths) + 16 * n, "it has another length than its table says")
    for i, length in enumerate(lengths):
        plain = min(SEGMENT, size - i * SEGMENT)
        need(1 <= length <= plain and (head[2] or length == plain), "its table is wrong")
        p = part(i + 1, at, at + length + 16)
        at += length + 16
        try:
            if length < plain:
                p = ZstdDecompressor(max_window_size=SEGMENT).stream_reader(p).read(plain + 1)
        except ZstdError:
            p = b""
        need(len(p) == plain, "a segment does not decode")
        out += p
    return out


class Store:
    def __init__(self, folder, secret, words, verify):
        self.folder, self.verify, self.chunks = Path(folder), verify, {}
        need((self.folder / "keys").is_dir(), f"{folder} is not a store: it has no folder keys")
        self.root, self.drive = self.unlock(secret, words)
        self.record()
        self.members()
        self.packs()

    def names(self, prefix):
        """The blobs in a folder of the bucket, in order, without second copies."""
        d = self.folder / prefix
        return sorted({p.name.removesuffix(".2") for p in d.iterdir()}) if d.is_dir() else []

    def unlock(self, secret, words):
        for name in self.names("keys")[:16]:
            b = (self.folder / "keys" / name).read_bytes()
            try:
                need(len(b) == 1024 and b[:8] == b"SHEAFKEY", "no slot")
                n = int.from_bytes(b[8:12], "big")
                need(n <= 1012 and not any(b[12 + n:]), "no slot")
                s = uncbor(b[12:12 + n])
                keys = {1, 2, 3, 4, 5, 6, 7, 8} - ({5} if s.get(4) != 1 else set())
                need(s.keys() == keys and s[1] == 1 and s[4] == 1 + words and s[3].hex() == name, "no slot")
                need([len(s[k]) for k in (2, 3, 6, 7, 8)] == [16, 16, 32, 72, 32], "no slot")
                material = secret
                if not words:
                    alg, memory, passes, threads = s[5]
                    need(alg == 1 and 1 << 16 <= memory <= 1 << 22 and 3 <= passes <= 64 and 1 <= threads <= 64, "cost")
                    material = hash_secret_raw(secret, s[6], passes, memory, threads, 32, Type.ID, 19)
                kek = derive("slot-recovery" if words else "slot-passphrase", material + s[6] + s[2])
                m = b[12:12 + n]  # in canonical CBOR, key 8 takes the last 35 bytes, key 7 the 75 before
                root = unbox(kek, bytes([m[0] - 2]) + m[1:-110], s[7])
                need(keyed(derive("root-slots", root), bytes([m[0] - 1]) + m[1:-35]) == s[8], "mac")
                return root, s[2]
            except Damage:
                continue
        raise Damage("wrong passphrase or words, or damaged key slots")

    def blob(self, name, key, context, purpose, keys, limit=1 << 20):
        """Opens a sealed blob or its second copy; returns its epoch, record, hash, and a check of its signature."""
        for path in (name, name + ".2"):
            try:
                b = (self.folder / path).read_bytes()
                need(1024 <= len(b) <= limit and b[:4] == b"SHB\1", "it is not a sealed blob")
                epoch = int.from_bytes(b[4:8], "big")
                p = unbox(key(epoch), b[:8] + b"sheaf/v1/" + context + b"\0" + name.encode(), b[8:])
                n = int.from_bytes(p[:4], "big")
                need(n <= len(p) - 4 and not any(p[4 + n:]), "its padding is wrong")
                body, signature = uncbor(p[4:4 + n], list)
                signed = b"sheaf/v1/signature\0" + purpose + b"\0" + body

                def check(public):
                    try:
                        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
                    except InvalidSignature:
                        raise Damage(f"{name}: the signature is wrong") from None
                return epoch, uncbor(body, keys=keys), blake3(p[4:4 + n]), check
            except FileNotFoundError:
                problem = "it is not there"
            except Damage as e:
                problem = e
        raise Damage(f"{name}: {problem}")

    def record(self):
        key, before = derive("root-record", self.root + self.drive), None
        seed = derive("root-owner", self.root)
        self.owner = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        for name in self.names("drive"):
            epoch, r, digest, check = self.blob("drive/" + name, lambda e: key, b"root-record", b"drive-record", range(1, 12))
            check(self.owner)
            need(epoch == 0 and r[2] == self.drive and r[9] == self.owner and r[3] == int(name, 16),
                 f"drive/{name} is of another drive")
            need(r[4] == before or before is None and (r[3] > 1 or not any(r[4])), f"drive/{name}: the chain is broken")
            before = digest
        need(before, "the drive record is missing")
        e = r[5]
        need(1 <= e <= 1024 and len(r[11]) == e - 1, "the drive record has other secrets than epochs")
        s = unbox(derive("root-drive", self.root + self.drive), self.drive + u32(e), r[10])
        self.secrets = {e: s}
        for i in range(e - 1, 0, -1):
            s = self.secrets[i] = unbox(derive("past-secret", s + self.drive + u32(i + 1)), self.drive + u32(i), r[11][i - 1])

    def key(self, x, epoch):
        need(epoch in self.secrets, f"epoch {epoch} is not in the drive record")
        return derive(x, self.secrets[epoch] + self.drive + u32(epoch))

    def members(self):
        self.log, self.devices, now = [bytes(32)], {}, 1
        for name in self.names("members"):
            epoch, r, digest, check = self.blob("members/" + name, lambda e: self.key("members", e), b"members", b"member",
                                                range(1, 16))
            what = f"members/{name}: "
            need(name == f"{len(self.log):08x}-{digest[:8].hex()}" and r[4] == len(self.log), what + "a gap or a fork")
            need(r[2] == self.drive and r[3] == epoch and r[5] == self.log[-1], what + "the chain is broken")
            now += r[6] == 3
            need(epoch == now, what + "the epoch is wrong")
            if any(r[12]):
                by = self.devices.get(r[12])
                need(by and by["roles"] & 2 and not by["last"], what + "its signer is no admin")
                check(by["public"])
            else:
                check(self.owner)
            if r[6] == 1:
                fingerprint = blake3(r[8] + r[9])
                need(r[7] == fingerprint[:16] and r[7] not in self.devices, what + "the device is wrong")
                self.devices[r[7]] = {"public": r[8], "name": r[10], "roles": r[11], "last": None}
            elif r[6] == 2:
                need(r[7] in self.devices, what + "no such device")
                self.devices[r[7]]["last"] = r[14]
            self.log.append(digest)
        need(self.devices, "no members entry is there")

    def heads(self):
        """The newest head of each device, by its ID."""
        found, hashes = {}, {}
        for device, d in self.devices.items():
            folder = "heads/" + keyed(self.key("head-name", 1), device)[:16].hex()
            names = self.names(folder)
            if d["last"]:
                names = [n for n in names if int(n, 16) <= d["last"][0]]
            before = None
            for name in names:
                what = f"{folder}/{name}"
                epoch, r, digest, check = self.blob(what, lambda e: self.key("head", e), b"head", b"head", range(1, 12), 1 << 17)
                check(d["public"])
                need((r[2], r[3], r[4], r[5]) == (self.drive, epoch, device, int(name, 16)),
                     what + ": it is of another place")
                need(before is None or r[6] == before, what + ": the chain is broken")
                need((r[5] == 1) == (not any(r[6])), what + ": the chain is broken")
                need(r[9][0] < len(self.log) and self.log[r[9][0]] == r[9][1], what + ": the members log was cut off")
                before = hashes[device, r[5]] = digest
                found[device] = r
            if d["last"] and d["last"][0]:
                need(before == d["last"][1], folder + ": the last head that counts is missing")
        for r in found.values():
            for device, (seq, digest) in r[10]:
                if device in self.devices and not self.devices[device]["last"]:
                    need(device in found and found[device][5] >= seq, "a newer head was seen by another device: the store is old")
                    need(hashes.get((device, seq), digest) == digest, "two devices have seen different heads")
        return found

    def packs(self):
        keys = [self.key("packdir", e) for e in sorted(self.secrets, reverse=True)]
        for path in sorted((self.folder / "packs").glob("??/*")):
            try:
                self.pack(path, keys)
            except Damage as e:
                print(f"pack {path.name} is passed over: {e}", file=sys.stderr)

    def pack(self, path, keys):
        name = path.name
        need(len(name) == 64 and path.parent.name == name[:2], "its name is wrong")
        size = path.stat().st_size
        e = size.bit_length() - 1
        need(1 << 16 <= size <= 1 << 25 and size % (1 << e - e.bit_length()) == 0, "its size is not allowed")
        with path.open("rb") as f:
            need(not self.verify or blake3(f.read()).hex() == name, "its name is not its hash")
            need(f.seek(0) == 0 and f.read(8) == b"SHEAFPK1", "it is no pack")
            aad = b"SHEAFPK1" + size.to_bytes(8, "big")
            f.seek(size - 128)
            sealed = f.read()
            for key in keys:
                try:
                    footer = unbox(key, b"sheaf/v1/pack-footer" + aad, sealed)
                    break
                except Damage:
                    footer = b""
            need(len(footer) == 88 and not any(footer[48:]), "its footer does not open")
            n, end, off, length = struct.unpack(">4I", footer[:16])
            need(n and end <= off and length == 40 + 105 * n and off + length == size - 128, "its footer is wrong")
            f.seek(off)
            sealed = f.read(length)
        need(blake3(sealed) == footer[16:48], "its directory is damaged")
        at = 8
        for ID, cid, siv, kind, plain, length in struct.iter_unpack(
                ">32s32s32sBII", unbox(key, b"sheaf/v1/pack-directory" + aad, sealed)):
            self.chunks.setdefault(ID, []).append((path, at, length))
            at += length
        need(at == end, "its directory is wrong")

    def chunk(self, ref, kinds):
        """The plain bytes of a ref, from any pack that has them whole."""
        need(len(ref) == 69 and ref[68] in kinds, "a ref is of a wrong kind")
        problem = "no pack has it"
        for path, off, length in self.chunks.get(ref[:32], ()):
            try:
                with path.open("rb") as f:
                    f.seek(off)
                    return open_chunk(ref, f.read(length))
            except Damage as e:
                problem = e
        raise Damage(f"chunk {ref[:32].hex()}: {problem}")

    def node(self, ref, level=None):
        """The leaf items below a node, checked against what the inner nodes say of them."""
        kind = ref[68]
        n = uncbor(self.chunk(ref, (kind,)), keys=(1, 2), required=(1, 2))
        need(n[2] and (n[1] == level if level is not None else n[1] < 32), "a node has another level")
        if n[1] == 0:
            yield from n[2]
            return
        need(level is not None or len(n[2]) > 1, "an inner node at the top has one child")
        for x in n[2]:
            below = list(self.node(x[1 if kind == DIR else 0], n[1] - 1))
            said = [below[0][1], len(below), flags(below)] if kind == DIR else sum(
                i if isinstance(i, int) else int.from_bytes(i[64:68], "big") for i in below)
            need((x[:1] + x[2:] if kind == DIR else x[1]) == said, "an inner node says what is not true")
            yield from below

    def directory(self, ref):
        last = b""
        entries = list(self.node(ref)) if ref else []
        need(not ref or ref[68] == DIR, "a directory has a node of another kind")
        for e in entries:
            need({1, 2, 4} <= e.keys() <= set(range(1, 29)) and e[4] in range(1, 8), "an entry is wrong")
            need(last < e[1] and 1 <= len(e[1]) <= 255 and not set(e[1]) & {0, 47} and e[1] not in (b".", b".."),
                 "the name of an entry is wrong")
            last = e[1]
        return entries

    def content(self, e):
        """The extents of a file: bytes, or the length of a hole."""
        ref, size = e.get(11), 0
        for x in ([] if not ref else [ref] if ref[68] == DATA else self.node(ref)):
            x = x if isinstance(x, int) else self.chunk(x, (DATA,))
            size += x if isinstance(x, int) else len(x)
            yield x
        need(size <= e.get(9, 0), "a file is shorter than its extents")


def flags(entries):
    f = 0
    for e in entries:
        f |= (24 in e or 26 in e) | (3 in e) << 1 | (27 in e) << 2 | e.get(28, 0)
    return f


def nanoseconds(t):
    return t[0] * 10**9 + t[1] if isinstance(t, list) else t


def quiet(what, path):
    """Runs what needs rights or a file system that the reader may not have."""
    try:
        what()
    except (OSError, OverflowError) as e:
        print(f"{os.fsdecode(path)!r}: {e}", file=sys.stderr)


class Extraction:
    def __init__(self, store, dest):
        self.store, self.dest, self.links = store, dest, {}

    def walk(self, path, entries):
        for e in entries:
            self.one(os.path.join(path, e[1]) if path else e[1], e)

    def one(self, path, e):
        kind, below = e[4], self.store.directory(e.get(11)) if e[4] == 2 else []
        need(flags(below) == e.get(28, 0), "the flags of a directory are not true")
        if self.dest is None:
            show(path, e)
            return self.walk(path, below)
        full = os.path.join(self.dest, path)
        first = self.links.setdefault((e[3], e.get(9), e.get(11)), full) if 3 in e else full
        if first != full:
            return os.link(first, full, follow_symlinks=False)
        if kind == 1:
            with open(full, "xb") as f:
                for x in self.store.content(e):
                    f.seek(x, 1) if isinstance(x, int) else f.write(x)
                f.truncate(e.get(9, 0))
        elif kind == 2:
            os.mkdir(full, 0o700)
            self.walk(path, below)
        elif kind == 3:
            os.symlink(e[12], full)
        else:
            kinds = stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK
            quiet(lambda: os.mknod(full, kinds[kind - 4] | 0o600, e.get(8, 0)), full)
        if os.path.lexists(full):
            attributes(full, e)


def attributes(path, e):
    if os.geteuid() == 0:
        quiet(lambda: os.chown(path, e.get(6, 0), e.get(7, 0), follow_symlinks=False), path)
    if e[4] != 3:
        os.chmod(path, e.get(5, 0))
    x = e.get(17, [])
    for name, value in zip(x[::2], x[1::2]):
        quiet(lambda: os.setxattr(path, name, value, follow_symlinks=False), path)
    if 13 in e:
        at, to = nanoseconds(e.get(15, e[13])), nanoseconds(e[13])
        quiet(lambda: os.utime(path, ns=(at, to), follow_symlinks=False), path)


def show(path, e):
    t = nanoseconds(e.get(13, 0)) // 10**9
    name = path.decode(errors="backslashreplace") + (" -> " + e[12].decode(errors="backslashreplace") if 12 in e else "")
    print(f"{'-dlpscb'[e[4] - 1]}{e.get(5, 0):04o} {e.get(6, 0):5} {e.get(7, 0):5} {e.get(9, 0):12} {t:11} {name!r}"
          + (" link " + e[3].hex()[:8] if 3 in e else ""))


def entropy(words, path):
    """The 32 bytes of the recovery words."""
    if path:
        listed = Path(path).read_text().split()
    else:
        from mnemonic import Mnemonic
        listed = Mnemonic("english").wordlist
    words = words.decode().lower().split()
    need(len(listed) == 2048 and len(words) == 24 and set(words) <= set(listed), "these are not 24 words of the list")
    n = 0
    for w in words:
        n = n << 11 | listed.index(w)
    b = (n >> 8).to_bytes(32, "big")
    need(hashlib.sha256(b).digest()[0] == n & 255, "the checksum of the words is wrong")
    return b


def newest(store, name):
    """The head whose snapshot has seen all others."""
    heads = {d: r for d, r in store.heads().items()}
    need(heads, "nothing was ever committed")
    if name:
        heads = {d: r for d, r in heads.items() if store.devices[d]["name"] == name}
        need(len(heads) == 1, "no head, or more than one, is of a device of this name")
    seen = {d: dict(r[8]) for d, r in heads.items()}
    covers = lambda a, b: all(seen[a].get(k, 0) >= v for k, v in seen[b].items())
    top = [d for d in heads if all(covers(d, o) for o in heads)]
    if not top:
        raise Damage("no tree has all changes: choose one with --device: "
                     + ", ".join(repr(store.devices[d]["name"]) for d in heads))
    return heads[top[0]][7]


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    for flag in ("--list", "--words", "--verify"):
        p.add_argument(flag, action="store_true")
    for flag in ("--secret-file", "--wordlist", "--device"):
        p.add_argument(flag)
    p.add_argument("store")
    p.add_argument("dest", nargs="?")
    o = p.parse_args()
    if bool(o.dest) == o.list:
        p.error("either DEST or --list")
    sys.setrecursionlimit(20000)
    if o.secret_file == "-":
        secret = sys.stdin.buffer.read()
    elif o.secret_file:
        secret = Path(o.secret_file).read_bytes()
    else:
        secret = getpass.getpass("24 words: " if o.words else "Passphrase: ").encode()
    secret = secret.removesuffix(b"\n")
    store = Store(o.store, entropy(secret, o.wordlist) if o.words else secret, o.words, o.verify)
    snapshot = uncbor(store.chunk(newest(store, o.device), (SNAPSHOT,)), keys=range(1, 12), required=())
    root = uncbor(snapshot[11]) if 11 in snapshot else {4: 2, 5: 0o700}
    entries = store.directory(snapshot.get(1))
    need(flags(entries) == snapshot.get(5, 0), "the flags of the root are not true")
    if o.dest:
        os.makedirs(o.dest, exist_ok=True)
        need(not os.listdir(o.dest), f"{o.dest} is not empty")
        dest = os.fsencode(o.dest)
        Extraction(store, dest).walk(b"", entries)
        attributes(dest, root)
    else:
        Extraction(store, None).walk(b"", entries)


if __name__ == "__main__":
    try:
        main()
    except Damage as e:
        sys.exit(f"damaged: {e}")
    except OSError as e:
        sys.exit(f"{e}")
