"""Runs operations from standard input with libcurl: tls host port user password ca."""
import io
import os
import sys
import urllib.parse

import pycurl

tls, host, port, user, password, ca = sys.argv[1:]
if "GnuTLS" not in pycurl.version:
    sys.exit("this libcurl is not built with GnuTLS: " + pycurl.version)
base = "%s://%s:%s" % ("ftps" if tls == "implicit" else "ftp", host, port)
c = pycurl.Curl()


def perform(path, **options):
    c.reset()
    c.setopt(pycurl.URL, base + urllib.parse.quote(path))
    c.setopt(pycurl.USERPWD, "%s:%s" % (user, password))
    c.setopt(pycurl.CAINFO, ca)
    c.setopt(pycurl.TIMEOUT, 60)
    if tls == "explicit":
        c.setopt(pycurl.USE_SSL, pycurl.USESSL_ALL)
    for name, value in options.items():
        c.setopt(getattr(pycurl, name), value)
    c.perform()


def commands(*lines):
    perform("/", NOBODY=True, QUOTE=list(lines))


for line in sys.stdin.read().splitlines():
    verb, a, b = line.split("\t")
    if verb == "put":
        with open(a, "rb") as f:
            perform(b, UPLOAD=True, READDATA=f, INFILESIZE_LARGE=os.path.getsize(a))
    elif verb == "get":
        with open(b, "wb") as f:
            perform(a, WRITEDATA=f)
    elif verb == "list":
        out = io.BytesIO()
        perform(a + "/", WRITEDATA=out, DIRLISTONLY=True)
        perform(a + "/", WRITEDATA=out)
        print(out.getvalue().decode())
    elif verb == "mkdir":
        commands("MKD " + a)
    elif verb == "rmdir":
        commands("RMD " + a)
    elif verb == "rename":
        commands("RNFR " + a, "RNTO " + b)
    elif verb == "delete":
        commands("DELE " + a)
    elif verb == "reget":
        with open(b, "ab") as f:
            perform(a, WRITEDATA=f, RESUME_FROM_LARGE=f.tell())
    elif verb == "reput":
        with open(a, "rb") as f:
            perform(b, UPLOAD=True, READFUNCTION=f.read, SEEKFUNCTION=lambda offset, whence: f.seek(offset, whence) and 0 or 0,
                    INFILESIZE_LARGE=os.path.getsize(a), RESUME_FROM_LARGE=-1)
    else:
        sys.exit("unknown " + verb)
