"""Aborts a download in the middle and then fetches the whole file: tls host port user password ca."""
import sys

import ftps

ftp = ftps.connect(*sys.argv[1:])
for _ in range(3):
    ftp.voidcmd("TYPE I")
    conn = ftp.transfercmd("RETR /big")
    if len(conn.recv(1000)) == 0:
        sys.exit("no byte before ABOR")
    if sys.argv[1] == "plain":
        reply = ftp.abort()  # as urgent data
    else:
        ftp.putline("ABOR")  # TLS has no urgent data
        reply = ftp.getmultiline()
    conn.close()
    if reply[:3] != "426":
        sys.exit("ABOR in a transfer: " + reply)
    reply = ftp.getmultiline()
    if reply[:3] != "226":
        sys.exit("after 426: " + reply)
with open("back", "wb") as out:
    ftp.retrbinary("RETR /big", out.write)
ftp.quit()
