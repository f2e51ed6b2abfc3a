package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// EventKind is a kind of event of the trail, such as "login.failed".
type EventKind string

// EventKinds are those that a hook may be on. Listings are not events that are kept.
var EventKinds = []string{"login", "login.failed", "logout", "connection.refused", "upload", "download", "delete", "rename", "mkdir", "rmdir", "attr", "copy", "link",
	"quota", "data.failed", "session.kick", "ban", "ban.lifted", "user.changed", "config.reload", "server.start", "server.stop", "address.changed", "port.mapped", "hook.dead", "task", "session.transcript"}

// UnmarshalText reads a kind; an underscore may stand for the dot.
func (e *EventKind) UnmarshalText(b []byte) error {
	s := strings.ReplaceAll(string(b), "_", ".")
	if s == "data.failure" {
		s = "data.failed"
	}
	if !slices.Contains(EventKinds, s) {
		text := fmt.Sprintf("%q is not an event; known are %s", clip(string(b)), strings.Join(EventKinds, ", "))
		if n := nearest(s, EventKinds); n != "" {
			text = fmt.Sprintf("%q is not an event; did you mean %q?", clip(string(b)), n)
		}
		return fmt.Errorf("%s", text)
	}
	*e = EventKind(s)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (e EventKind) MarshalText() ([]byte, error) { return []byte(e), nil }

// Delivery is how a hook reaches its receiver.
type Delivery string

// The ways.
const (
	DeliverWebhook Delivery = "webhook"
	DeliverProgram Delivery = "program"
	DeliverMail    Delivery = "mail"
)

// HookMode says whether a hook is told of an event or asked before it.
type HookMode string

// The modes.
const (
	HookNotify HookMode = "notify"
	HookAsk    HookMode = "ask"
)

// OnError says what becomes of an operation when its hook cannot be asked.
type OnError string

// The choices.
const (
	ErrorRefuse OnError = "refuse"
	ErrorAllow  OnError = "allow"
)

// Outcome chooses events by how they ended: ok, failed or any.
type Outcome string

// MailTLS is how the connection to a mail server is protected.
type MailTLS string

// The ways.
const (
	MailStartTLS MailTLS = "starttls"
	MailImplicit MailTLS = "implicit"
	MailClear    MailTLS = "off"
)

func (Delivery) choices() []string { return []string{"webhook", "program", "mail"} }
func (HookMode) choices() []string { return []string{"notify", "ask"} }
func (OnError) choices() []string  { return []string{"refuse", "allow"} }
func (Outcome) choices() []string  { return []string{"ok", "failed", "any"} }
func (MailTLS) choices() []string  { return []string{"starttls", "implicit", "off"} }

// Hook is one [[hook]] entry.
type Hook struct {
	Name       string      `toml:"name" example:"\"orders\"" reload:"live" required:"true" doc:"Name in lists, logs and the trail; stable, because what waits to be delivered is kept under it."`
	On         []EventKind `toml:"on" example:"[\"upload\"]" reload:"live" required:"true" doc:"Events it is for: login, login.failed, logout, connection.refused, upload, download, delete, rename, mkdir, rmdir, attr, copy, link, quota, data.failed, session.kick, ban, ban.lifted, user.changed, config.reload, server.start, server.stop, address.changed, port.mapped, hook.dead, task, session.transcript. An underscore may stand for the dot."`
	Mode       HookMode    `toml:"mode" default:"notify" reload:"live" doc:"notify tells the receiver afterwards, at least once, over crashes and restarts. ask waits for its answer before a login, upload, download, delete, rename, mkdir, rmdir, attr, copy or link happens, and refuses what it refuses."`
	Deliver    Delivery    `toml:"deliver" example:"\"webhook\"" reload:"live" required:"true" doc:"webhook sends an HTTP POST to url, program runs program, mail writes to the addresses in to."`
	Users      []string    `toml:"users" example:"[\"acme-*\"]" reload:"live" doc:"Only events of these accounts; * stands for any text, ? for one character. Empty is every account."`
	Groups     []string    `toml:"groups" example:"[\"partners\"]" reload:"live" doc:"Only events of members of these groups, with * and ? as in users."`
	Paths      []string    `toml:"paths" example:"[\"/in/*\"]" reload:"live" doc:"Only these paths as the user sees them; * also stands for slashes. For a rename either name counts."`
	Protocols  []string    `toml:"protocols" example:"[\"sftp\"]" reload:"live" doc:"Only these protocols: ftp, ftps, sftp, scp, task."`
	Outcome    Outcome     `toml:"outcome" default:"ok" reload:"live" doc:"Only what succeeded (ok) or failed. login.failed, connection.refused, quota and data.failed are failures by nature and always count."`
	MinSize    Size        `toml:"min_size" default:"0" reload:"live" doc:"Only transfers of at least this size."`
	MaxSize    Size        `toml:"max_size" default:"0" reload:"live" doc:"Only transfers of at most this size; 0 is no limit."`
	Timeout    Duration    `toml:"timeout" default:"10s" min:"1ms" max:"10m" reload:"live" doc:"How long one delivery or answer may take, at most 1m with mode ask. A program is killed then, with all it started."`
	OnError    OnError     `toml:"on_error" default:"refuse" reload:"live" doc:"What happens with mode ask when no answer comes: refuse the operation, or allow it."`
	Attempts   int         `toml:"attempts" default:"15" min:"1" max:"1000" reload:"live" doc:"After so many failed tries a delivery is given up and kept for portreeve hook dead. 15 with the pauses below are about nine hours."`
	Backoff    Duration    `toml:"backoff" default:"10s" min:"1ms" max:"1d" reload:"live" doc:"Pause after the first failed try. It doubles with each further one; up to half of it is left to chance."`
	BackoffMax Duration    `toml:"backoff_max" default:"2h" min:"1ms" max:"7d" reload:"live" doc:"Longest pause between two tries."`
	MaxWaiting int         `toml:"max_waiting" default:"10000" min:"1" max:"10000000" reload:"live" doc:"How many deliveries may wait for the receiver. Beyond it the oldest are dropped, counted and told in the log: first those of events that strangers can cause (login.failed, connection.refused, ban, ban.lifted, hook.dead), so that a flood of them drops no upload."`
	MaxDead    int         `toml:"max_dead" default:"1000" min:"1" max:"10000000" reload:"live" doc:"How many deliveries that were given up are kept for portreeve hook dead. Beyond it the oldest are dropped, in the same order."`
	Parallel   int         `toml:"parallel" default:"4" min:"1" max:"64" reload:"live" doc:"How many deliveries run at the same time; 1 keeps their order while none fails. Mail is sent one by one."`
	URL        string      `toml:"url" default:"" example:"\"https://orders.example.org/in\"" reload:"live" doc:"Where a webhook goes. Redirects are not followed."`
	SecretFile string      `toml:"secret_file" default:"" example:"\"/etc/portreeve/orders-secret\"" path:"file" reload:"live" doc:"File with the secret that signs a webhook in its first line, as text or as whsec_ and Base64. Without a secret it is not signed."`
	SecretEnv  string      `toml:"secret_env" default:"" reload:"live" doc:"Name of an environment variable of the server with that secret, in place of a file."`
	CA         string      `toml:"ca" default:"" example:"\"/etc/portreeve/orders-ca.pem\"" path:"file" reload:"live" doc:"Certificate authorities of the receiver, PEM. Empty is those of the system."`
	Networks   []Prefix    `toml:"networks" example:"[\"10.1.2.3\"]" reload:"live" doc:"Loopback, private and other inside addresses that a webhook may be sent to. All of them are refused unless they are listed here, whatever a name resolves to."`
	Program    []string    `toml:"program" example:"[\"/usr/local/bin/order\", \"--quiet\"]" reload:"live" doc:"Program and its arguments, run without a shell. It must be named by its absolute path, belong to root or the server's user and be writable by nobody else, and lie outside every directory that users see."`
	To         []string    `toml:"to" example:"[\"ops@example.org\"]" reload:"live" doc:"Addresses that mail goes to."`
	Subject    string      `toml:"subject" default:"" example:"\"orders on ftp.example.org\"" reload:"live" doc:"Subject of the mail. Empty says what happened."`
	Pause      Duration    `toml:"pause" default:"1m" min:"0s" max:"1d" reload:"live" doc:"Shortest time between two mails; what happens meanwhile comes together in the next one."`
}

// Mail is [mail].
type Mail struct {
	Server       string  `toml:"server" default:"" example:"\"smtp.example.org:587\"" reload:"live" doc:"Mail server (SMTP) that hooks with deliver = \"mail\" use, as host:port."`
	TLS          MailTLS `toml:"tls" default:"starttls" reload:"live" doc:"starttls and implicit protect the connection, and nothing is sent without it; off only for a server on this machine."`
	CA           string  `toml:"ca" default:"" example:"\"/etc/portreeve/mail-ca.pem\"" path:"file" reload:"live" doc:"Certificate authorities of the mail server, PEM. Empty is those of the system."`
	User         string  `toml:"user" default:"" example:"\"portreeve\"" reload:"live" doc:"Account at the mail server. Empty does not log in."`
	PasswordFile string  `toml:"password_file" default:"" example:"\"/etc/portreeve/mail-password\"" path:"file" reload:"live" doc:"File with the password of user in its first line."`
	From         string  `toml:"from" default:"" example:"\"portreeve@example.org\"" reload:"live" doc:"Sender of the mails."`
}

var askable = []EventKind{"login", "upload", "download", "delete", "rename", "mkdir", "rmdir", "attr", "copy", "link"}

// hooks checks [[hook]] and [mail].
func (k *checker) hooks() {
	k.mail()
	names := map[string]string{}
	for i := range k.c.Hooks {
		h, key := &k.c.Hooks[i], fmt.Sprintf("hook[%d]", i)
		k.entryName(key, "hook", h.Name, names)
		if len(h.On) == 0 {
			k.fail(key+".on", "missing; name the events it is for, such as on = [\"upload\"]")
		}
		if h.MaxSize > 0 && h.MinSize > h.MaxSize {
			k.fail(key+".max_size", "%s is less than min_size, so no transfer would ever match", h.MaxSize)
		}
		if h.BackoffMax < h.Backoff {
			k.fail(key+".backoff_max", "%s is less than backoff, the first pause", h.BackoffMax)
		}
		if h.Mode == HookAsk {
			k.askHook(h, key)
		}
		switch h.Deliver {
		case DeliverWebhook:
			k.webhook(h, key)
		case DeliverProgram:
			k.program(h, key)
		case DeliverMail:
			k.mailHook(h, key)
		default:
			k.fail(key+".deliver", "missing; write deliver = \"webhook\", \"program\" or \"mail\"")
		}
	}
}

// entryName checks the name of a hook or task.
func (k *checker) entryName(key, what, name string, seen map[string]string) {
	switch {
	case name == "":
		k.fail(key+".name", "missing; give the %s a name", what)
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" || len(name) > 64:
		k.fail(key+".name", "%q: a name is up to 64 letters, digits, dots, dashes and underscores", clip(name))
	case seen[name] != "":
		k.fail(key+".name", "%q is already the name of another %s%s; choose another", name, what, k.where(seen[name]))
	}
	seen[name] = key + ".name"
}

func (k *checker) askHook(h *Hook, key string) {
	for _, e := range h.On {
		if !slices.Contains(askable, e) {
			k.fail(key+".on", "%q cannot be refused, so nobody can be asked about it; with mode = \"ask\" only login, upload, download, delete, rename, mkdir, rmdir, attr, copy and link are possible", e)
		}
	}
	if h.Deliver == DeliverMail {
		k.fail(key+".mode", "mail gives no answer; write mode = \"notify\", or deliver = \"webhook\" or \"program\"")
	}
	// These are not known before it happens, so nobody would ever be asked.
	switch {
	case h.MinSize > 0:
		k.fail(key+".min_size", "the size is not known when mode = \"ask\" asks; leave min_size out")
	case h.MaxSize > 0:
		k.fail(key+".max_size", "the size is not known when mode = \"ask\" asks; leave max_size out")
	case h.Outcome == "failed":
		k.fail(key+".outcome", "nothing has failed when mode = \"ask\" asks; leave outcome out")
	}
	if h.Timeout.Std() > askMax {
		k.fail(key+".timeout", "%s is too long with mode = \"ask\", for which a client waits; the most is 1m", h.Timeout)
	}
}

const askMax = 60e9 // one minute, as a time.Duration

func (k *checker) webhook(h *Hook, key string) {
	u, err := url.Parse(h.URL)
	switch {
	case h.URL == "":
		k.fail(key+".url", "missing; say where the webhook goes")
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		k.fail(key+".url", "%q is not a URL such as https://orders.example.org/in", clip(h.URL))
	case u.User != nil:
		k.fail(key+".url", "the URL holds a password; receivers know the server by its signature, see secret_file")
	}
	switch {
	case h.SecretFile != "" && h.SecretEnv != "":
		k.fail(key+".secret_env", "secret_file is set too; keep one of them")
	case h.SecretEnv != "" && os.Getenv(h.SecretEnv) == "":
		k.fail(key+".secret_env", "the environment variable %s is not set or empty", clip(h.SecretEnv))
	}
}

func (k *checker) program(h *Hook, key string) {
	if len(h.Program) == 0 {
		k.fail(key+".program", "missing; name the program, such as [\"/usr/local/bin/order\"]")
		return
	}
	p := h.Program[0]
	if !filepath.IsAbs(p) || filepath.Clean(p) != p {
		k.fail(key+".program", "%q is not an absolute path; programs are not searched for", clip(p))
		return
	}
	for _, a := range h.Program {
		if strings.ContainsRune(a, 0) {
			k.fail(key+".program", "an argument cannot contain a zero byte")
			return
		}
	}
	st, err := os.Stat(p)
	switch {
	case os.IsNotExist(err):
		k.fail(key+".program", "no such file: %s", printable(p))
	case err != nil:
		k.fail(key+".program", "%v; the server must be able to run it", err)
	case !st.Mode().IsRegular() || st.Mode()&0o111 == 0:
		k.fail(key+".program", "%s is not a program", printable(p))
	}
}

func (k *checker) mailHook(h *Hook, key string) {
	if len(h.To) == 0 {
		k.fail(key+".to", "missing; say who gets the mail")
	}
	for _, a := range h.To {
		k.address(key+".to", a)
	}
	if strings.ContainsAny(h.Subject, "\r\n\x00") {
		k.fail(key+".subject", "a subject is one line")
	}
	if k.c.Mail.Server == "" {
		k.fail(key+".deliver", "mail needs a mail server; set mail.server and mail.from")
	}
}

// address checks a bare mail address; the mail library checks it again.
func (k *checker) address(key, a string) {
	at := strings.LastIndexByte(a, '@')
	if at < 1 || at == len(a)-1 || strings.ContainsAny(a, " \t\r\n<>,;\"\\") {
		k.fail(key, "%q is not a mail address such as ops@example.org", clip(a))
	}
}

func (k *checker) mail() {
	m := &k.c.Mail
	if m.Server == "" {
		return
	}
	host, port, ok := strings.Cut(m.Server, ":")
	if a, err := netip.ParseAddrPort(m.Server); err == nil {
		host, port = a.Addr().String(), fmt.Sprint(a.Port())
	} else if !ok || host == "" || port == "" || strings.Trim(port, "0123456789") != "" || !validHost(host) {
		k.fail("mail.server", "%q is not a host and port such as smtp.example.org:587", clip(m.Server))
		return
	}
	if m.TLS == MailClear && !loopbackHost(host) {
		k.fail("mail.tls", "mail would cross the network in clear; write \"starttls\" or \"implicit\"")
	}
	if (m.User == "") != (m.PasswordFile == "") {
		k.fail("mail.user", "user and password_file belong together; set both or none")
	}
	if m.From == "" {
		k.fail("mail.from", "missing; name the sender, such as portreeve@example.org")
	} else {
		k.address("mail.from", m.From)
	}
}
