package ftpd

import (
	"context"
	"errors"
	"iter"

	"github.com/portreeve/portreeve/ftp"
	"github.com/portreeve/portreeve/internal/auth"
	"github.com/portreeve/portreeve/internal/fault"
)

// waiting is what somebody gets who must choose a new password first: a
// session in which nothing is possible but SITE PSWD, which ends it.
type waiting struct {
	b    *Backend
	c    *ftp.Conn
	g    *guest
	user string
}

var (
	_ ftp.Session         = (*waiting)(nil)
	_ ftp.PasswordChanger = (*waiting)(nil)
)

func (w *waiting) refused() error { return &ftp.Error{Code: 530, Message: w.Welcome()} }

// Welcome is part of the reply to PASS. See ftp.Welcomer.
func (w *waiting) Welcome() string {
	if w.c.TLS() == nil {
		return "Your password must be changed first, which is not possible on a connection without TLS: log in again with TLS, or over SFTP."
	}
	return `Your password must be changed first: send SITE PSWD old new, in double quotes where they hold spaces.`
}

// ChangePassword sets the new password and logs the user in. See ftp.PasswordChanger.
func (w *waiting) ChangePassword(ctx context.Context, old, fresh string) (ftp.Session, error) {
	s, err := w.g.Login(ctx, auth.NewPassword{User: w.user, Old: old, New: fresh})
	var fe *fault.Error
	switch {
	case err == nil:
	case fault.KindOf(err) == fault.Invalid && !errors.Is(err, auth.ErrBad) && errors.As(err, &fe) && fe.Err != nil:
		return nil, &ftp.Error{Code: 553, Message: fault.Sentence(fe.Err.Error())}
	case errors.Is(err, auth.ErrBad):
		return nil, w.b.refuse(fault.New(fault.Login, "change the password", "", err), phaseGuest, "SITE PSWD", "")
	default:
		return nil, w.b.refuse(err, phaseGuest, "SITE PSWD", "")
	}
	w.b.mu.Lock()
	w.g.user = s.User()
	w.b.mu.Unlock()
	return newSession(w.b, w.c, s), nil
}

// Stat is not possible yet, as the rest.
func (w *waiting) Stat(context.Context, string) (ftp.Info, error) { return ftp.Info{}, w.refused() }

// List is not possible yet.
func (w *waiting) List(context.Context, string) iter.Seq2[ftp.Info, error] {
	return func(yield func(ftp.Info, error) bool) { yield(ftp.Info{}, w.refused()) }
}

// Open is not possible yet.
func (w *waiting) Open(context.Context, string, int64) (ftp.Source, error) { return nil, w.refused() }

// Create is not possible yet.
func (w *waiting) Create(context.Context, string, ftp.CreateOptions) (ftp.Sink, error) {
	return nil, w.refused()
}

// Mkdir is not possible yet.
func (w *waiting) Mkdir(context.Context, string) error { return w.refused() }

// Remove is not possible yet.
func (w *waiting) Remove(context.Context, string) error { return w.refused() }

// Rmdir is not possible yet.
func (w *waiting) Rmdir(context.Context, string) error { return w.refused() }

// Rename is not possible yet.
func (w *waiting) Rename(context.Context, string, string) error { return w.refused() }

// Close forgets what was proved.
func (w *waiting) Close(error) { w.g.Restart() }
