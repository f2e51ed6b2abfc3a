package importer

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// settings gather what becomes the configuration file.
type settings struct {
	listen []*listener
	keys   map[string]string // "ftp.banner" -> TOML value
}

// listener is one [[listen]] entry.
type listener struct {
	protocol, host, port string
	keys                 map[string]string
}

func newSettings() *settings { return &settings{keys: map[string]string{}} }

func (s *settings) put(key, value string)       { s.keys[key] = strconv.Quote(value) }
func (s *settings) raw(key, value string)       { s.keys[key] = value }
func (s *settings) number(key string, n int)    { s.keys[key] = strconv.Itoa(n) }
func (s *settings) seconds(key string, n int)   { s.put(key, strconv.Itoa(n)+"s") }
func (s *settings) yes(key string, b bool)      { s.keys[key] = strconv.FormatBool(b) }
func (l *listener) put(key, value string)       { l.keys[key] = strconv.Quote(value) }
func (s *settings) list(key string, v []string) { s.keys[key] = quoteList(v) }

func quoteList(v []string) string {
	q := make([]string, len(v))
	for i := range v {
		q[i] = strconv.Quote(v[i])
	}
	return "[" + strings.Join(q, ", ") + "]"
}

// first returns the first listener and makes it when there is none.
func (s *settings) first() *listener {
	if len(s.listen) == 0 {
		s.add("ftp", "", "21")
	}
	return s.listen[0]
}

func (s *settings) add(protocol, host, port string) *listener {
	l := &listener{protocol: protocol, host: host, port: port, keys: map[string]string{}}
	s.listen = append(s.listen, l)
	return l
}

var sectionOrder = []string{"ftp", "ftp.passive", "tls", "limits", "upload", "anonymous", "log"}

// missing reports that a key names a file or directory that this machine does
// not have; such a line is written as a comment, or the server would not start.
func missing(key, value string) bool {
	switch key {
	case "tls.cert", "tls.key", "tls.client_ca", "anonymous.home":
	default:
		return false
	}
	p, err := strconv.Unquote(value)
	if err != nil {
		return false
	}
	_, err = os.Stat(p)
	return err != nil
}

// text writes the file. What refers to a missing file is commented out, and
// with one half of the certificate the other half too.
func (s *settings) text(format string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made by portreeve import from %s. Check it with: portreeve check\n", format)
	s.first()
	for _, l := range s.listen {
		b.WriteString("\n[[listen]]\n")
		fmt.Fprintf(&b, "protocol = %q\naddress = %q\n", l.protocol, net.JoinHostPort(l.host, l.port))
		for _, k := range sorted(l.keys) {
			fmt.Fprintf(&b, "%s = %s\n", k, l.keys[k])
		}
	}
	off := map[string]bool{}
	for k, v := range s.keys {
		off[k] = missing(k, v)
	}
	if off["tls.cert"] || off["tls.key"] || s.keys["tls.cert"] == "" || s.keys["tls.key"] == "" {
		off["tls.cert"], off["tls.key"] = true, true
	}
	if off["anonymous.home"] {
		off["anonymous.enabled"], off["anonymous.upload"] = true, true
	}
	for _, sec := range sectionOrder {
		head := false
		for _, k := range sorted(s.keys) {
			name, ok := strings.CutPrefix(k, sec+".")
			if !ok || strings.Contains(name, ".") {
				continue
			}
			if !head {
				fmt.Fprintf(&b, "\n[%s]\n", sec)
				head = true
			}
			if off[k] {
				b.WriteString("# not on this machine: ")
			}
			fmt.Fprintf(&b, "%s = %s\n", name, s.keys[k])
		}
	}
	return b.String()
}

func sorted(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
