package ftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Features are the extensions that FEAT (RFC 2389 section 3.2) named: upper
// case name to parameters, which are empty for most.
type Features map[string]string

// Has reports whether the server named the feature.
func (f Features) Has(name string) bool {
	_, ok := f[strings.ToUpper(name)]
	return ok
}

// Names returns the names in order.
func (f Features) Names() []string {
	names := make([]string, 0, len(f))
	for n := range f {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// Facts returns the MLST facts on offer and which of them are switched on
// (RFC 3659 section 7.8).
func (f Features) Facts() (offered, enabled []string) {
	for _, n := range strings.Split(f["MLST"], ";") {
		if n = strings.TrimSpace(n); n == "" {
			continue
		}
		name := strings.TrimSuffix(n, "*")
		offered = append(offered, name)
		if name != n {
			enabled = append(enabled, name)
		}
	}
	return offered, enabled
}

// Host names the virtual host that is meant (RFC 7151). It comes before Login.
func (c *Client) Host(ctx context.Context, name string) error {
	return c.do(ctx, 2, "HOST "+name)
}

// Login logs in with USER and, when asked, PASS; then it protects data
// connections if the control connection is protected, asks for the features,
// turns UTF-8 names on where that is a switch, and sets TYPE I.
func (c *Client) Login(ctx context.Context, user, password string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.ContainsAny(user+password, "\r\n\x00") {
		return errors.New("ftp: user name and password must not contain line ends")
	}
	r, err := c.want(ctx, 0, "USER "+user)
	if err == nil && r.Code == 331 {
		r, err = c.want(ctx, 0, "PASS "+password)
	}
	if err != nil {
		return err
	}
	if r.Code/100 != 2 { // 332: an account is needed too
		return &Error{Code: r.Code, Message: r.Text}
	}
	if err := c.secure(ctx); err != nil {
		return err
	}
	f, err := c.feat(ctx)
	if err != nil {
		return err
	}
	if f.Has("UTF8") {
		var refused *Error
		if _, err := c.want(ctx, 0, "OPTS UTF8 ON"); err != nil && !errors.As(err, &refused) {
			return err
		}
	}
	return c.setType(ctx, "I")
}

// Features asks FEAT once and remembers the answer. A server that does not
// know the command has none.
func (c *Client) Features(ctx context.Context) (Features, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.feat(ctx)
}

func (c *Client) feat(ctx context.Context) (Features, error) {
	if c.features != nil {
		return c.features, nil
	}
	r, err := c.want(ctx, 0, "FEAT")
	var refused *Error
	if err != nil && (!errors.As(err, &refused) || refused.Code == 530 || refused.Code < 500) {
		return nil, err
	}
	f := Features{}
	if err == nil && len(r.Lines) > 1 {
		for _, l := range r.Lines[1:] {
			name, params, _ := strings.Cut(strings.TrimSpace(l), " ")
			if name != "" {
				f[strings.ToUpper(name)] = params
			}
		}
	}
	c.features = f
	return f, nil
}

// do sends one command that has to be answered with the class.
func (c *Client) do(ctx context.Context, class int, line string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.want(ctx, class, line)
	return err
}

// reply is do for callers that read the reply.
func (c *Client) reply(ctx context.Context, class int, line string) (Reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.want(ctx, class, line)
}

// Type sets the representation: "I", "A", or what else RFC 959 section 5.3.2
// allows. Login has chosen "I".
func (c *Client) Type(ctx context.Context, typ string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.setType(ctx, typ)
}

func (c *Client) setType(ctx context.Context, typ string) error {
	if c.typ == typ {
		return nil
	}
	_, err := c.want(ctx, 2, "TYPE "+typ)
	if err == nil {
		c.typ = typ
	}
	return err
}

// Noop asks whether the server still listens.
func (c *Client) Noop(ctx context.Context) error { return c.do(ctx, 2, "NOOP") }

// ChangeDir makes dir the working directory.
func (c *Client) ChangeDir(ctx context.Context, dir string) error { return c.do(ctx, 2, "CWD "+dir) }

// WorkingDir returns the working directory.
func (c *Client) WorkingDir(ctx context.Context) (string, error) {
	r, err := c.reply(ctx, 2, "PWD")
	if err != nil {
		return "", err
	}
	p, ok := quotedPath(r.Text)
	if !ok {
		return "", &ProtocolError{Line: clip(r.Text), Why: "it does not quote a path as 257 should"}
	}
	return p, nil
}

// quotedPath reads the path of a 257 reply, where quotes are doubled (RFC 959
// appendix II) and NUL stands for a newline.
func quotedPath(text string) (string, bool) {
	_, rest, ok := strings.Cut(text, `"`)
	if !ok {
		return "", false
	}
	var b strings.Builder
	for i := 0; i < len(rest); i++ {
		if rest[i] == '"' {
			if i+1 == len(rest) || rest[i+1] != '"' {
				return decodeName(b.String()), true
			}
			i++
		}
		b.WriteByte(rest[i])
	}
	return "", false
}

// Retrieve downloads a file from offset on. The reader must be closed; it
// returns io.EOF only when the server has confirmed that all was sent. ctx
// governs the whole download.
func (c *Client) Retrieve(ctx context.Context, path string, offset int64) (io.ReadCloser, error) {
	t, err := c.begin(ctx, "RETR "+path, offset)
	if err != nil {
		return nil, err
	}
	return &download{t: t}, nil
}

// Store uploads r to path and returns how many bytes were sent. With an offset
// the file keeps the bytes before it, and r must begin there. An *os.File on a
// plain connection is sent by the kernel.
func (c *Client) Store(ctx context.Context, path string, r io.Reader, offset int64) (int64, error) {
	n, _, err := c.upload(ctx, "STOR "+path, r, offset)
	return n, err
}

// Append adds r to the end of the file at path, which need not exist.
func (c *Client) Append(ctx context.Context, path string, r io.Reader) (int64, error) {
	n, _, err := c.upload(ctx, "APPE "+path, r, 0)
	return n, err
}

// StoreUnique uploads r under a name that the server chooses and returns it.
// Most servers ignore the hint, some need it to be empty.
func (c *Client) StoreUnique(ctx context.Context, hint string, r io.Reader) (name string, n int64, err error) {
	line := "STOU"
	if hint != "" {
		line += " " + hint
	}
	n, t, err := c.upload(ctx, line, r, 0)
	if err != nil {
		return "", n, err
	}
	// RFC 1123 section 4.1.2.9: "150 FILE: name".
	if _, name, ok := strings.Cut(t.first.Text, "FILE: "); ok {
		return decodeName(name), n, nil
	}
	return "", n, &ProtocolError{Line: clip(t.first.Text), Why: `it does not name the file as "FILE: name" after STOU`}
}

func (c *Client) upload(ctx context.Context, line string, r io.Reader, offset int64) (int64, *exchange, error) {
	t, err := c.begin(ctx, line, offset)
	if err != nil {
		return 0, nil, err
	}
	n, err := t.copyFrom(r)
	if err == nil {
		err = t.closeWrite()
	}
	return n, t, t.finish(err)
}

// Size asks for the size in bytes of the transfer in the current type (RFC
// 3659 section 4).
func (c *Client) Size(ctx context.Context, path string) (int64, error) {
	r, err := c.reply(ctx, 2, "SIZE "+path)
	if err != nil {
		return 0, err
	}
	n, perr := strconv.ParseInt(strings.TrimSpace(r.Text), 10, 64)
	if perr != nil || n < 0 {
		return 0, &ProtocolError{Line: clip(r.Text), Why: "it is not a size"}
	}
	return n, nil
}

// ModTime asks when a file was modified (RFC 3659 section 3).
func (c *Client) ModTime(ctx context.Context, path string) (time.Time, error) {
	r, err := c.reply(ctx, 2, "MDTM "+path)
	if err != nil {
		return time.Time{}, err
	}
	t, perr := ParseTimeVal(strings.TrimSpace(r.Text))
	if perr != nil {
		return time.Time{}, &ProtocolError{Line: clip(r.Text), Why: perr.Error()}
	}
	return t, nil
}

// SetModTime sets the modification time, to the second, by MFMT.
func (c *Client) SetModTime(ctx context.Context, path string, t time.Time) error {
	return c.do(ctx, 2, "MFMT "+FormatTimeVal(t)+" "+path)
}

// Mkdir makes a directory.
func (c *Client) Mkdir(ctx context.Context, path string) error { return c.do(ctx, 2, "MKD "+path) }

// Rmdir removes an empty directory.
func (c *Client) Rmdir(ctx context.Context, path string) error { return c.do(ctx, 2, "RMD "+path) }

// Remove removes a file.
func (c *Client) Remove(ctx context.Context, path string) error { return c.do(ctx, 2, "DELE "+path) }

// Rename moves a file or directory.
func (c *Client) Rename(ctx context.Context, from, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.want(ctx, 3, "RNFR "+from); err != nil {
		return err
	}
	_, err := c.want(ctx, 2, "RNTO "+to)
	return err
}

// Chmod sets permission bits by SITE CHMOD.
func (c *Client) Chmod(ctx context.Context, path string, mode fs.FileMode) error {
	return c.do(ctx, 2, fmt.Sprintf("SITE CHMOD %03o %s", mode.Perm(), path))
}

// HashResult is what HASH answered.
type HashResult struct {
	Algorithm  string // "SHA-256"
	Start, End int64  // the range that was hashed, as the server says it
	Sum        string // lower-case hexadecimal
	Path       string
}

// Hash has the server compute a hash of a file (draft-bryan-ftp-hash). An
// empty algorithm is the one in force; another is chosen by OPTS HASH first.
func (c *Client) Hash(ctx context.Context, path, algorithm string) (HashResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if algorithm != "" {
		if _, err := c.want(ctx, 2, "OPTS HASH "+algorithm); err != nil {
			return HashResult{}, err
		}
	}
	r, err := c.want(ctx, 2, "HASH "+path)
	if err != nil {
		return HashResult{}, err
	}
	h, ok := parseHash(r.Text)
	if !ok {
		return HashResult{}, &ProtocolError{Line: clip(r.Text), Why: `it is not of the form "SHA-256 0-49 hash name"`}
	}
	return h, nil
}

func parseHash(text string) (HashResult, bool) {
	f := strings.SplitN(text, " ", 4)
	if len(f) != 4 {
		return HashResult{}, false
	}
	from, to, ok := strings.Cut(f[1], "-")
	start, err1 := strconv.ParseInt(from, 10, 64)
	end, err2 := strconv.ParseInt(to, 10, 64)
	for _, c := range []byte(f[2]) {
		ok = ok && strings.IndexByte("0123456789abcdefABCDEF", c) >= 0
	}
	if !ok || err1 != nil || err2 != nil || f[2] == "" {
		return HashResult{}, false
	}
	return HashResult{Algorithm: f[0], Start: start, End: end, Sum: strings.ToLower(f[2]), Path: decodeName(f[3])}, true
}

// decodeName undoes NUL for newline in a name that the server sent.
func decodeName(s string) string { return strings.ReplaceAll(s, "\x00", "\n") }
