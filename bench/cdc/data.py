#!/usr/bin/env python3
"""Makes two versions of five kinds of data for bench/cdc: data.py DIR

source   the Go tree's src, then with three lines put into every thirtieth file
tarball  the same as one tar each
mail     an mbox of 250 MB, then with 0.3 % of the messages gone and 300 new
db       an SQLite file, then after 1000 updates and 3000 inserts
media    40 incompressible files, then with a longer tag in every fourth, and one more
vm       an ext4 image, then after 250 files were rewritten and 20 added in it

Needs sqlite3, mkfs.ext4 and debugfs, 5 GB of room, and a Go tree. The same seed
gives the same mail, media and edits.
"""
import base64, os, random, shutil, sqlite3, subprocess, sys

R = random.Random(7)
D = sys.argv[1]
GOROOT = subprocess.check_output(["go", "env", "GOROOT"], text=True).strip()


def run(*args, **kw):
    subprocess.run(args, check=True, **kw)


def vocabulary():
    seen = {}
    for at, dirs, files in os.walk(GOROOT + "/src"):
        dirs.sort()
        for f in sorted(files):
            if f.endswith(".go"):
                for w in open(os.path.join(at, f), errors="ignore").read().split():
                    if w.isalpha() and 2 < len(w) < 14:
                        seen[w] = seen.get(w, 0) + 1
    return sorted(seen, key=lambda w: (-seen[w], w))[:30000]


WORDS = vocabulary()


def text(n):
    out, size = [], 0
    while size < n:
        w = WORDS[int(len(WORDS) * R.random() ** 2.5)]
        out.append(w)
        size += len(w) + 1
        if R.random() < 0.1:
            out.append("\n")
    return " ".join(out)[:n]


def write(path, b):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(b)


def source():
    for v in "12":
        shutil.copytree(GOROOT + "/src", f"{D}/source{v}/src")
    files = sorted(os.path.join(a, f) for a, _, fs in os.walk(f"{D}/source2") for f in fs if f.endswith(".go"))
    for f in R.sample(files, len(files) // 30):
        lines = open(f, "rb").read().split(b"\n")
        for _ in range(3):
            lines.insert(R.randrange(len(lines) + 1), b"// " + text(60).replace("\n", " ").encode())
        write(f, b"\n".join(lines))
    for v in "12":
        os.makedirs(f"{D}/tarball{v}")
        run("tar", "--sort=name", "--mtime=@0", "-C", f"{D}/source{v}", "-cf", f"{D}/tarball{v}/src.tar", "src")
    return [f[len(D + "/source2/"):] for f in files]


def message(i):
    parts = f"\n--b{i}\nContent-Type: text/plain\n\n" + text(int(R.lognormvariate(7.3, 1.0)))
    if R.random() < 0.12:
        body = R.randbytes(int(min(4e6, R.lognormvariate(11.5, 1.3))))
        parts += f"\n--b{i}\nContent-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n"
        parts += base64.encodebytes(body).decode()
    who = f"user{R.randrange(300)}@example.org"
    return (
        f"From {who} Thu Jan  1 00:00:00 2026\n"
        f"Received: from mx{R.randrange(5)}.example.org by mail.example.net with ESMTPS id {R.getrandbits(64):x}\n"
        f"Message-ID: <{R.getrandbits(96):x}@example.org>\nFrom: {who}\nTo: me@example.net\n"
        f"Subject: {text(40)!r}\nDate: Thu, 1 Jan 2026 {R.randrange(24):02d}:{R.randrange(60):02d}:00 +0000\n"
        f"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b{i}\n{parts}\n--b{i}--\n\n"
    ).encode()


def mail():
    messages, size = [], 0
    while size < 250e6:
        messages.append(message(len(messages)))
        size += len(messages[-1])
    write(D + "/mail1/mbox", b"".join(messages))
    kept = [m for m in messages if R.random() > 0.003]
    write(D + "/mail2/mbox", b"".join(kept + [message(10**6 + i) for i in range(300)]))


def db():
    os.makedirs(D + "/db1")
    os.makedirs(D + "/db2")
    n = 220000
    c = sqlite3.connect(D + "/db1/a.sqlite")
    c.execute("create table t(id integer primary key, uid text, name text, body text, blob blob)")
    c.execute("create index u on t(uid)")
    row = "insert into t values(?,?,?,?,?)"
    uid = lambda: "%032x" % R.getrandbits(128)
    for i in range(n):
        c.execute(row, (i, uid(), text(20), text(R.randrange(100, 900)), R.randbytes(R.randrange(0, 300))))
    c.commit()
    c.close()
    shutil.copy(D + "/db1/a.sqlite", D + "/db2/a.sqlite")
    c = sqlite3.connect(D + "/db2/a.sqlite")
    for i in range(1000):
        c.execute("update t set body=?,name=? where id=?",
                  (text(R.randrange(100, 900)), text(20), int(n * (1 - R.random() ** 3)) - 1))
    for i in range(3000):
        c.execute(row, (n + i, uid(), text(20), text(500), R.randbytes(100)))
    c.commit()
    c.close()


def media():
    for i in range(40):
        b = R.randbytes(R.randrange(2_000_000, 12_000_000))
        write(f"{D}/media1/{i}.jpg", b)
        if i % 4 == 0:
            b = b[:500] + R.randbytes(R.randrange(20, 3000)) + b[500:]
        write(f"{D}/media2/{i}.jpg", b)
    write(f"{D}/media2/new.mp4", R.randbytes(30_000_000))


def vm(files):
    root, new = D + "/root", D + "/new"
    shutil.copytree(GOROOT + "/src", root + "/src")
    shutil.copytree("/usr/bin", root + "/bin", symlinks=True, ignore=shutil.ignore_patterns("*fusermount*"))
    for v in "12":
        os.makedirs(f"{D}/vm{v}")
    run("truncate", "-s", "1500M", D + "/vm1/disk.img")
    run("mkfs.ext4", "-q", "-F", "-d", root, D + "/vm1/disk.img")
    run("cp", "--sparse=always", D + "/vm1/disk.img", D + "/vm2/disk.img")
    script = []
    for k, f in enumerate(R.sample(files, 250)):
        write(f"{new}/{k}", text(R.randrange(1000, 60000)).encode())
        script += [f"rm /{f}", f"write {new}/{k} /{f}"]
    for k in range(20):
        write(f"{new}/bin{k}", R.randbytes(R.randrange(10**5, 10**6)))
        script.append(f"write {new}/bin{k} /bin/new{k}")
    run("debugfs", "-w", "-f", "/dev/stdin", D + "/vm2/disk.img", input="\n".join(script).encode(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


vm_files = source()
mail()
db()
media()
vm(vm_files)
