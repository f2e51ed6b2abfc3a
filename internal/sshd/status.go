package sshd

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"unicode"

	"github.com/portreeve/portreeve/internal/fault"
)

// The status codes of SFTP version 3 (draft-ietf-secsh-filexfer-02 section 7).
const (
	statusOK               = 0
	statusEOF              = 1
	statusNoSuchFile       = 2
	statusPermissionDenied = 3
	statusFailure          = 4
	statusOpUnsupported    = 8
)

const levelError = slog.LevelError

// answer is what a client is told about one kind of fault.
type answer struct {
	code  uint32
	text  string
	level slog.Level
	// own says that the fault's own sentence, made by fault.Text for people,
	// is sent instead: it knows the number or the reason.
	own bool
}

// answers is the table of architecture.md section 5.
var answers = map[fault.Kind]answer{
	fault.Invalid:     {statusFailure, "not a valid name or argument", slog.LevelDebug, false},
	fault.NameRefused: {statusPermissionDenied, "this name is not allowed here; choose another one", slog.LevelInfo, false},
	fault.NotExist:    {statusNoSuchFile, "no such file or directory", slog.LevelDebug, false},
	fault.Exist:       {statusFailure, "it exists already; choose another name or delete it first", slog.LevelDebug, false},
	fault.WrongType:   {statusFailure, "it is a directory where a file is needed, a file where a directory is needed, or a directory that is not empty", slog.LevelDebug, false},
	fault.Denied:      {statusPermissionDenied, "permission denied; ask the administrator for the right to do this here", slog.LevelInfo, true},
	fault.Login:       {statusPermissionDenied, "log-in failed: user name or password is wrong, or this account may not log in this way", slog.LevelInfo, false},
	fault.Quota:       {statusFailure, "the quota of this account is used up; delete something or ask for more room", slog.LevelInfo, true},
	fault.TooLarge:    {statusFailure, "larger than the largest file allowed here", slog.LevelInfo, true},
	fault.NoSpace:     {statusFailure, "the server's disk is full; nothing more can be stored until the administrator makes room", slog.LevelError, false},
	fault.Busy:        {statusFailure, "in use by another transfer; try again when that is done", slog.LevelInfo, true},
	fault.Limit:       {statusFailure, "too many connections or operations at once; try again in a moment", slog.LevelInfo, true},
	fault.Range:       {statusFailure, "the position is too far past the end of the file", slog.LevelDebug, true},
	fault.Unsupported: {statusOpUnsupported, "this storage cannot do that", slog.LevelDebug, false},
	fault.Canceled:    {statusFailure, "cancelled before it was done", slog.LevelInfo, true},
	fault.Unavailable: {statusFailure, "the storage does not answer; try again later", slog.LevelError, false},
	fault.Stopping:    {statusFailure, "the server is shutting down; try again in a moment", slog.LevelInfo, false},
	fault.Internal:    {statusFailure, "the server failed to carry this out; the administrator finds the details in the log", slog.LevelError, false},
}

// answerTo returns what to tell a client about err. nil is success, io.EOF is
// the end of a file or listing.
func answerTo(err error) answer {
	if err == nil {
		return answer{code: statusOK, text: "done"}
	}
	if errors.Is(err, io.EOF) {
		return answer{code: statusEOF, text: "end of file"}
	}
	a, ok := answers[fault.KindOf(err)]
	if !ok {
		a = answers[fault.Internal]
	}
	if t := fault.OwnText(err, a.own); t != "" {
		a.text = t
	}
	return a
}

// plain makes text of a client harmless for a terminal: control characters become "?".
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
