"""Runs operations from standard input with ftplib: tls host port user password ca reuse."""
import os
import sys

import ftps

tls, host, port, user, password, ca, reuse = sys.argv[1:]
ftp = ftps.connect(tls, host, port, user, password, ca, reuse == "reuse")
for line in sys.stdin.read().splitlines():
    verb, a, b = line.split("\t")
    if verb == "put":
        with open(a, "rb") as f:
            ftp.storbinary("STOR " + b, f)
    elif verb == "get":
        with open(b, "wb") as f:
            ftp.retrbinary("RETR " + a, f.write)
    elif verb == "list":
        print("\n".join(name for name, facts in ftp.mlsd(a)))
        ftp.retrlines("LIST " + a)
    elif verb == "mkdir":
        ftp.mkd(a)
    elif verb == "rmdir":
        ftp.rmd(a)
    elif verb == "rename":
        ftp.rename(a, b)
    elif verb == "delete":
        ftp.delete(a)
    elif verb == "reget":
        with open(b, "ab") as f:
            ftp.retrbinary("RETR " + a, f.write, rest=f.tell())
    elif verb == "reput":
        ftp.voidcmd("TYPE I")
        with open(a, "rb") as f:
            f.seek(ftp.size(b))
            ftp.storbinary("STOR " + b, f, rest=f.tell())
    else:
        sys.exit("unknown " + verb)
ftp.quit()
