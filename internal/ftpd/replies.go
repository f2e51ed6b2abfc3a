package ftpd

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/fault"
)

// phase is where in a connection's life a fault happened.
type phase uint8

const (
	phaseGuest phase = iota // before log-in
	phaseUser               // logged in
)

// answer is what a client is told about one kind of fault. In text, NAME
// stands for the path as the client knows it.
type answer struct {
	code  int
	text  string
	level slog.Level
	// own says that the fault's own sentence, made by fault.Text for people,
	// is sent instead: it knows the number or the time.
	own bool
}

// answers is the table of architecture.md section 5 for a user that is logged in.
var answers = map[fault.Kind]answer{
	fault.Invalid:     {501, "NAME: not a valid name or argument; correct it and try again.", slog.LevelDebug, false},
	fault.NameRefused: {553, "NAME: this name is not allowed here; choose another one.", slog.LevelInfo, false},
	fault.NotExist:    {550, "NAME: no such file or directory; list the directory above to see what is there.", slog.LevelDebug, false},
	fault.Exist:       {550, "NAME: exists already; choose another name or delete it first.", slog.LevelDebug, false},
	fault.WrongType:   {550, "NAME: is a directory where a file is needed, a file where a directory is needed, or a directory that is not empty.", slog.LevelDebug, false},
	fault.Denied:      {550, "NAME: permission denied; ask the administrator for the right to do this here.", slog.LevelInfo, true},
	fault.Login:       {530, "Log-in failed: user name or password is wrong, or this account may not log in this way.", slog.LevelInfo, false},
	fault.Quota:       {552, "NAME: the quota of this account is used up; delete something or ask for more room.", slog.LevelInfo, true},
	fault.TooLarge:    {552, "NAME: larger than the largest file allowed here.", slog.LevelInfo, true},
	fault.NoSpace:     {452, "NAME: the server's disk is full; nothing more can be stored until the administrator makes room.", slog.LevelError, false},
	fault.Busy:        {450, "NAME: in use by another transfer; try again when that is done.", slog.LevelInfo, true},
	fault.Limit:       {450, "NAME: too many operations at once for this account or server; try again in a moment.", slog.LevelInfo, true},
	fault.Range:       {554, "NAME: the restart position is past the end of the file; send REST 0 or ask for its SIZE.", slog.LevelDebug, false},
	fault.Unsupported: {502, "NAME: this storage cannot do that.", slog.LevelDebug, false},
	fault.Canceled:    {426, "NAME: cancelled before it was done; start it again.", slog.LevelInfo, false},
	fault.Unavailable: {451, "NAME: the storage does not answer; try again later.", slog.LevelError, false},
	fault.Stopping:    {421, "The server is stopping; try again in a moment.", slog.LevelInfo, false},
	fault.Internal:    {451, "NAME: the server failed to carry this out; the administrator finds the details in the log.", slog.LevelError, false},
}

const notNow = "Log-in is not possible at the moment, because the account's files or the list of accounts cannot be reached; try again later."

// guestAnswers differ from answers before log-in, when a limit or a failing
// part ends the connection.
var guestAnswers = map[fault.Kind]answer{
	fault.Limit:       {421, "Too many connections from your address or to this server; try again in a minute.", slog.LevelInfo, true},
	fault.Unavailable: {421, notNow, slog.LevelError, false},
	fault.Busy:        {421, notNow, slog.LevelError, false}, // the database is another's
	fault.Internal:    {421, "The server failed to carry this out; the administrator finds the details in the log.", slog.LevelError, false},
	fault.Denied:      {530, "You may not log in from here.", slog.LevelInfo, false},
	fault.Canceled:    {421, "The connection was ended by the server.", slog.LevelInfo, false},
}

// answerTo returns the reply to a fault. name is the path as the client gave
// it, "" when there is none.
func answerTo(err error, p phase, name string) (*ftp.Error, slog.Level) {
	kind := fault.KindOf(err)
	a, ok := answers[kind]
	if g, special := guestAnswers[kind]; p == phaseGuest && special {
		a = g
	} else if !ok {
		a = answers[fault.Internal]
	}
	text := fault.OwnText(err, a.own)
	if text == "" {
		text = strings.Replace(a.text, "NAME: ", prefix(name), 1)
	}
	return &ftp.Error{Code: a.code, Message: fault.Sentence(text)}, a.level
}

func prefix(name string) string {
	if name == "" {
		return ""
	}
	return name + ": "
}

// refusal is an error for the engine: it finds the reply in it, and a log the cause.
type refusal struct {
	reply *ftp.Error
	cause error
}

func (r *refusal) Error() string   { return r.cause.Error() }
func (r *refusal) Unwrap() []error { return []error{r.reply, r.cause} }

// refuse turns an error into a refusal. Failures of the server are logged,
// since the client does not get to see the cause; the rest is an event of the
// session already and appears at level debug. nil stays nil.
func (b *Backend) refuse(err error, p phase, op, name string) error {
	if err == nil {
		return nil
	}
	var done *refusal
	if errors.As(err, &done) {
		return err
	}
	reply, level := answerTo(err, p, name)
	if level < slog.LevelError {
		level = slog.LevelDebug
	}
	b.opt.Log.Log(context.Background(), level, "refused", "cmd", op, "path", name,
		"code", reply.Code, "fault", fault.KindOf(err).String(), "err", err)
	return &refusal{reply: reply, cause: err}
}
