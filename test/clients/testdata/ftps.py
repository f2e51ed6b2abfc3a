"""ftplib with what it lacks: implicit TLS, TLS session reuse, and EPSV and EPRT on request."""
import ftplib
import socket
import ssl


class FTPS(ftplib.FTP_TLS):
    implicit = False
    reuse = True


    @property
    def sock(self):
        return self._sock

    @sock.setter
    def sock(self, value):
        # With implicit TLS the greeting comes protected already.
        if self.implicit and value is not None and not isinstance(value, ssl.SSLSocket):
            value = self.context.wrap_socket(value, server_hostname=self.host)
        self._sock = value

    def ntransfercmd(self, cmd, rest=None):
        if not (self.reuse and self._prot_p):
            return super().ntransfercmd(cmd, rest)
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        conn = self.context.wrap_socket(conn, server_hostname=self.host, session=self.sock.session)
        return conn, size


def extended_active(ftp):
    """Make the client send EPRT instead of PORT over IPv4, too."""
    def sendport(host, port):
        return ftp.voidcmd("EPRT |1|%s|%d|" % (host, port))
    ftp.sendport = sendport


def connect(tls, host, port, user, password, ca, reuse=True):
    if tls == "plain":
        ftp = ftplib.FTP(timeout=60)
    else:
        context = ssl.create_default_context(cafile=ca)
        ftp = FTPS(context=context, timeout=60)
        ftp.implicit = tls == "implicit"
        ftp.reuse = reuse
    ftp.encoding = "utf-8"
    ftp.connect(host, int(port))
    ftp.login(user, password)
    if tls != "plain":
        ftp.prot_p()
    return ftp
