package hook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/portreeve/portreeve/internal/config"
)

// maxSubject is the longest subject, in octets.
const maxSubject = 200

// mailBatch is how many events one mail may tell of.
const mailBatch = 100

// mailer writes mail. One mail may tell of several events.
type mailer struct {
	from, subject string
	to            []string
	host          string
	options       []mail.Option
}

func newMailer(h *config.Hook, c *config.Mail) (*mailer, error) {
	host, port, err := net.SplitHostPort(c.Server)
	if err != nil {
		return nil, fmt.Errorf("mail.server: %w", err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("mail.server: %q is not a port", port)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if t.RootCAs, err = authorities(c.CA); err != nil {
		return nil, fmt.Errorf("mail.%w", err)
	}
	m := &mailer{from: c.From, to: h.To, subject: h.Subject, host: host}
	m.options = []mail.Option{mail.WithPort(n), mail.WithTimeout(h.Timeout.Std()), mail.WithTLSConfig(t), mail.WithoutNoop()}
	switch c.TLS {
	case config.MailImplicit:
		m.options = append(m.options, mail.WithSSL())
	case config.MailStartTLS:
		m.options = append(m.options, mail.WithTLSPolicy(mail.TLSMandatory))
	default:
		m.options = append(m.options, mail.WithTLSPolicy(mail.NoTLS))
	}
	if c.User != "" {
		password, err := secretLine(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("mail.password_file: %w", err)
		}
		how := mail.SMTPAuthAutoDiscover
		if c.TLS == config.MailClear { // to this machine alone
			how = mail.SMTPAuthPlainNoEnc
		}
		m.options = append(m.options, mail.WithSMTPAuth(how), mail.WithUsername(c.User), mail.WithPassword(password))
	}
	if _, err := m.compose([]message{{id: "check"}}); err != nil {
		return nil, err
	}
	_, err = mail.NewClient(m.host, m.options...)
	return m, err
}

// compose writes the mail. What comes from events is made one printable line
// before it gets anywhere near a header; the library encodes headers besides.
func (m *mailer) compose(ms []message) (*mail.Msg, error) {
	out := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := out.From(m.from); err != nil {
		return nil, fmt.Errorf("mail.from: %w", err)
	}
	if err := out.To(m.to...); err != nil {
		return nil, fmt.Errorf("to: %w", err)
	}
	subject := m.subject
	if subject == "" {
		e := &ms[0].p.Event
		subject = "Portreeve: " + string(e.Kind)
		if e.User != "" {
			subject += " by " + e.User
		}
		if e.Path != "" {
			subject += ": " + e.Path
		}
		if len(ms) > 1 {
			subject = fmt.Sprintf("Portreeve: %d events of hook %s", len(ms), ms[0].p.Hook)
		}
		if ms[0].p.Test {
			subject = "[test] " + subject
		}
	}
	out.Subject(clip(plain(subject), maxSubject))
	var b strings.Builder
	for i := range ms {
		if i > 0 {
			b.WriteString("\n----\n\n")
		}
		b.WriteString(strings.Join(lines(&ms[i].p.Event), "\n") + "\nmessage:  " + ms[i].id + "\n")
	}
	fmt.Fprintf(&b, "\nSent by the hook %q of Portreeve.\n", ms[0].p.Hook)
	out.SetBodyString(mail.TypeTextPlain, b.String())
	out.SetDateWithValue(time.Now())
	_, domain, _ := strings.Cut(m.from, "@")
	out.SetMessageIDWithValue(ms[0].id + "@" + domain) // the same at every try
	out.SetGenHeader("Auto-Submitted", "auto-generated")
	return out, nil
}

func (m *mailer) deliver(ctx context.Context, ms []message) error {
	out, err := m.compose(ms)
	if err != nil {
		return err
	}
	c, err := mail.NewClient(m.host, m.options...)
	if err != nil {
		return err
	}
	// The library watches the context only while it connects.
	done := make(chan error, 1)
	go func() { done <- c.DialAndSendWithContext(ctx, out) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the mail server did not take the mail within the timeout")
	}
	return err
}

func (m *mailer) ask(context.Context, message) (answer, error) {
	return answer{}, errors.New("mail gives no answer")
}

func (m *mailer) target() string { return strings.Join(m.to, ", ") }

func (m *mailer) close() {}
