package ftp

import (
	"context"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/netip"
	"os"
	"time"
)

// Backend is what the engine serves: it turns credentials into a Session.
// It is called concurrently for different connections.
type Backend interface {
	// Login checks cred. With cred.Complete false only USER has been seen: the
	// backend may return ErrPassword (331, the normal answer), or log the user
	// in on the strength of a TLS client certificate (232).
	// Any other error refuses the log-in; an *Error chooses the reply.
	Login(ctx context.Context, c *Conn, cred Credentials) (Session, error)
}

// Admitter is an optional ability of a Backend: Connect is asked before the
// greeting. An *Error chooses the reply (421) and the connection is closed.
type Admitter interface {
	Connect(ctx context.Context, c *Conn) error
	// Disconnect is called once for every connection that Connect admitted.
	Disconnect(c *Conn, cause error)
}

// HostChecker is an optional ability of a Backend: HOST (RFC 7151) and SNI.
// A nil error accepts the name.
type HostChecker interface {
	Host(ctx context.Context, c *Conn, name string) error
}

// Credentials is what the client offered.
type Credentials struct {
	User     string
	Password string // meaningless unless Complete
	Account  string // ACCT, usually empty
	Complete bool   // PASS was given
}

// Session is the file system of one logged-in user. Names are clean absolute
// slash paths. The engine calls it from at most two goroutines at a time (the
// command reader and one transfer). Errors choose replies by *Error or, for
// plain ones, by errors.Is with fs.ErrNotExist, fs.ErrExist, fs.ErrPermission.
// Abilities beyond these methods are found by type assertion: Chmoder,
// TimeSetter, Symlinker, Copier, Spacer, Usage, Diagnoser, PasswordChanger,
// Welcomer.
type Session interface {
	Stat(ctx context.Context, name string) (Info, error)
	// List streams a directory without "." and "..". The engine keeps nothing
	// of an Info beyond the next one: strings may lie in memory that is used again.
	List(ctx context.Context, name string) iter.Seq2[Info, error]
	Open(ctx context.Context, name string, offset int64) (Source, error)
	Create(ctx context.Context, name string, o CreateOptions) (Sink, error)
	Mkdir(ctx context.Context, name string) error
	Remove(ctx context.Context, name string) error // a file or link
	Rmdir(ctx context.Context, name string) error
	Rename(ctx context.Context, from, to string) error
	// Close ends the session; cause says why (nil: QUIT).
	Close(cause error)
}

// Chmoder changes permission bits (SITE CHMOD, MFF UNIX.mode); mode is within 0o777.
type Chmoder interface {
	Chmod(ctx context.Context, name string, mode fs.FileMode) error
}

// TimeSetter changes times (MFMT, MFCT, MDTM with a time, SITE UTIME). Nil leaves a time alone.
type TimeSetter interface {
	SetTimes(ctx context.Context, name string, modified, created *time.Time) error
}

// Symlinker makes symbolic links (SITE SYMLINK).
type Symlinker interface {
	Symlink(ctx context.Context, target, name string) error
}

// Copier copies a file on the server (SITE CPFR/CPTO).
type Copier interface {
	Copy(ctx context.Context, from, to string) error
}

// Spacer tells the bytes the user may still store in a directory (AVBL).
type Spacer interface {
	Space(ctx context.Context, name string) (free int64, err error)
}

// Usage tells quota use (SITE QUOTA, XQUOTA); a limit of 0 is none.
type Usage interface {
	Usage(ctx context.Context) (usedBytes, maxBytes, usedFiles, maxFiles int64, err error)
}

// PasswordChanger lets the user choose a new password (SITE PSWD). The session
// that is returned takes the place of this one, which is not closed; nil keeps it.
// The engine asks for it on connections with TLS only.
type PasswordChanger interface {
	ChangePassword(ctx context.Context, old, new string) (Session, error)
}

// Welcomer has something to say to a user who has logged in: it is part of the reply.
type Welcomer interface {
	Welcome() string
}

// Info describes a file for listings and facts. Zero values are left out of facts.
type Info struct {
	Name    string
	Size    int64 // bytes
	Mode    fs.FileMode
	ModTime time.Time
	Created time.Time
	Owner   string
	Group   string
	Links   uint32
	Dev     uint64 // Dev and Inode make the unique fact
	Inode   uint64
	Perm    string // RFC 3659 section 7.5.5 letters; "" when not known
	Target  string // of a symbolic link
}

// IsDir reports whether the entry is a directory.
func (i *Info) IsDir() bool { return i.Mode.IsDir() }

// CreateOptions says how an upload is stored.
type CreateOptions struct {
	Exclusive bool  // STOU: the name must be new
	Append    bool  // APPE
	Offset    int64 // REST: keep the bytes before it
	Size      int64 // ALLO, 0 when unknown
}

// Source is a file being sent. It may also offer OSFile and Meter, which lets
// the engine hand the file to the kernel. Close is called exactly once, with
// nil after a complete transfer.
type Source interface {
	io.Reader
	Close(cause error) error
}

// Sink is a file being received. After the last byte the engine calls Commit
// and then Close(nil); a failed transfer gets Close(cause) alone.
type Sink interface {
	io.Writer
	Commit(ctx context.Context) error
	Close(cause error) error
}

// OSFiler is a Source or Sink that is a file of the operating system,
// positioned where the transfer starts. A nil file means bytes must pass through Read or Write.
type OSFiler interface{ OSFile() *os.File }

// Sizer tells the bytes a Source has left to send, -1 when it does not know.
type Sizer interface{ Size() int64 }

// Meter lets the session pace and account for bytes the engine moves itself.
// Grant waits until some bytes may move and says how many (1 to max); its
// error ends the transfer. Moved reports what has moved.
type Meter interface {
	Grant(ctx context.Context, max int64) (int64, error)
	Moved(n int64)
}

// PassivePorts hands out listening ports for PASV and EPSV.
type PassivePorts interface {
	// Lease reserves a port on the local address the client reached.
	// ErrNoPort when none is free.
	Lease(ctx context.Context, c *Conn) (Lease, error)
}

// Lease is one reserved passive port, or a claim on a shared one.
type Lease interface {
	// Addr is what to announce. A zero address means the one the engine would
	// choose (Config.PassiveAddress); the port may differ from the one bound
	// when a router maps it.
	Addr() netip.AddrPort
	// Accept waits for a connection. It may be called again when the engine
	// rejected the peer.
	Accept(ctx context.Context) (net.Conn, error)
	// Release closes or returns the port. It is idempotent.
	Release()
}

// DataAttempt records one data connection, successful or not.
type DataAttempt struct {
	Time     time.Time      // of the PASV/EPSV/PORT/EPRT
	Mode     string         // "PASV", "EPSV", "PORT", "EPRT"
	TLS      bool           // PROT P
	Resumed  bool           // the TLS session was that of the control connection
	Control  netip.AddrPort // peer of the control connection
	Local    netip.AddrPort // passive: what was announced; active: our end
	Remote   netip.AddrPort // the data peer, or the one dialled; zero when nobody came
	Stranger netip.AddrPort // a connection that was turned away, if any
	Waited   time.Duration  // from the transfer command to the connection
	Reaction time.Duration  // from the announcement to the transfer command
	Code     string         // "ok" or a stable code such as "PR-D01"
	Err      error
}

// TLSBinding says whether a protected data connection must resume the TLS
// session of its own control connection.
type TLSBinding uint8

// The policies, from lenient to strict.
const (
	BindPrefer  TLSBinding = iota // once a data connection has resumed the control connection's ticket, later ones must resume, this session or another of the same account and address
	BindOff                       // any TLS session will do
	BindRequire                   // every data connection must resume
)

// TLSPolicy says whether TLS is refused, possible or demanded.
type TLSPolicy uint8

// The policies. The zero value offers TLS wherever Config.TLS is set.
const (
	TLSOffered TLSPolicy = iota
	TLSRequired
	TLSOff
)
