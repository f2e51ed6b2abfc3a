# Logs in with paramiko by the answers to keyboard-interactive questions, and
# stores a file. Usage: factors.py PORT USER ANSWER...
import io
import sys

import paramiko

port, user, answers = int(sys.argv[1]), sys.argv[2], sys.argv[3:]


def handler(title, instructions, prompts):
    return [answers.pop(0) for _ in prompts]


t = paramiko.Transport(("127.0.0.1", port))
try:
    t.start_client(timeout=20)
    missing = t.auth_interactive(user, handler)
    if missing:
        sys.exit("more is needed: %r" % (missing,))
    if answers:
        sys.exit("%d answers were not asked for" % len(answers))
    sftp = paramiko.SFTPClient.from_transport(t)
    sftp.putfo(io.BytesIO(b"hello"), "up")
    sftp.close()
finally:
    t.close()
