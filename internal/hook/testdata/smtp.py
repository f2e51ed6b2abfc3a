"""A mail server for the tests: prints what it gets as one JSON line a mail.

usage: smtp.py MODE CERT KEY   (MODE: starttls, implicit)
"""
import asyncio, json, ssl, sys

from aiosmtpd.smtp import SMTP, AuthResult


class Handler:
    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({"from": envelope.mail_from, "to": envelope.rcpt_tos, "data": envelope.content.decode("latin-1"),
                          "tls": session.ssl is not None, "user": (session.auth_data or b"").decode()}), flush=True)
        return "250 taken"


def check(server, session, envelope, mechanism, data):
    good = data.login == b"portreeve" and data.password == b"s3cret"
    return AuthResult(success=good, handled=good, auth_data=data.login)


mode, cert, key = sys.argv[1:4]
tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(cert, key)
options = dict(authenticator=check, auth_required=True, auth_require_tls=mode == "starttls")
if mode == "starttls":
    options.update(tls_context=tls, require_starttls=True)


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler(), loop=loop, **options), "127.0.0.1", 0, ssl=tls if mode == "implicit" else None)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until the test is over


asyncio.run(main())
