package config

// Value is one effective setting.
type Value struct {
	Key    string `json:"key"`    // listeners by name: "listen[ftp-21].address"
	Value  string `json:"value"`  // as TOML
	Origin string `json:"origin"` // "default", "derived", "portreeve.toml:7", "env PORTREEVE_X", "flag --x"
	Reload string `json:"reload"` // "live" or "restart"
}

// Change is a key whose value differs between two configurations.
type Change struct {
	Key    string `json:"key"`    // "ftp.passive.ports"; a listener that came or went is "listen[name]"
	Old    string `json:"old"`    // as TOML, "" when it is new
	New    string `json:"new"`    // as TOML, "" when it is gone
	Reload string `json:"reload"` // "live", or "restart" when only a restart applies it
}

// Diff lists the keys that differ, in the order of the reference.
func Diff(old, new *Config) []Change { return nil }

// Values lists every effective setting in the order of the reference.
func (c *Config) Values() []Value { return nil }

// Show writes the effective configuration as TOML that Parse accepts, with
// origin each line ends with a comment that names its source.
func (c *Config) Show(origin bool) string { return "" }

// Warnings lists what is allowed but probably not meant.
func (c *Config) Warnings() Errors { return c.src.warnings }

// Reference returns docs/reference/config.md.
func Reference() string { return "" }

// Example returns a commented configuration file with every key.
func Example() string { return "" }

// QuickStart returns the configuration of a server without a file.
func QuickStart(dir, address string) (*Config, error) { return nil, nil }
