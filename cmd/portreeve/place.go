package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/api"
	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/server"
)

// systemConfig is where a packaged installation has its configuration.
const systemConfig = "/etc/portreeve/portreeve.toml"

// configFile returns the configuration file to use, "" when there is none.
func (a *app) configFile() string {
	switch {
	case a.configFlag != "":
		return a.configFlag
	case a.getenv("PORTREEVE_CONFIG") != "":
		return a.getenv("PORTREEVE_CONFIG")
	case exists("portreeve.toml"):
		return "portreeve.toml"
	case exists(systemConfig):
		return systemConfig
	}
	return ""
}

// errNoConfig is what commands say that need to know which server is meant.
var errNoConfig = errors.New("there is no configuration: --config is not given, PORTREEVE_CONFIG is not set, and neither ./portreeve.toml nor " +
	systemConfig + " exists; make one with \"portreeve init\", or start without one with \"portreeve serve\"")

// load reads the configuration in use: the file, or what a quick start in this
// directory left. Warnings go to standard error.
func (a *app) load() (*config.Config, error) {
	file := a.configFile()
	if file == "" {
		if !exists(quickDir) {
			return nil, errNoConfig
		}
		cfg, err := config.QuickStart(quickDir, "", a.env...)
		if err == nil {
			server.QuickLimits(cfg)
		}
		return cfg, err
	}
	return config.Load(file, a.env, nil)
}

// place finds the data directory and the control socket. A configuration with
// mistakes is no reason not to: the running server still has its good one, and
// status and stop must work. So the two keys that matter are then read alone.
func (a *app) place() (dataDir, socket string, err error) {
	cfg, err := a.load()
	var ce config.Errors
	if errors.As(err, &ce) {
		if salvaged := a.salvage(); salvaged != nil {
			cfg, err = salvaged, nil
		}
	}
	if err != nil {
		return "", "", err
	}
	return cfg.DataDir, cfg.Admin.Socket, nil
}

// salvage builds a configuration of nothing but data_dir and admin.socket from
// a file that has mistakes elsewhere. nil when that is not possible.
func (a *app) salvage() *config.Config {
	file := a.configFile()
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var dir, socket, section string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
		}
		key, _, _ := strings.Cut(line, "=")
		switch key = strings.TrimSpace(key); {
		case section == "" && key == "data_dir":
			dir = line
		case section == "[admin]" && key == "socket":
			socket = line
		}
	}
	if v := a.getenv(config.EnvName("data_dir")); v != "" {
		dir = fmt.Sprintf("data_dir = %q", v)
	}
	if v := a.getenv(config.EnvName("admin.socket")); v != "" {
		socket = fmt.Sprintf("socket = %q", v)
	}
	cfg, err := config.Parse(file, []byte(dir+"\n[admin]\n"+socket+"\n[[listen]]\nprotocol = \"ftp\"\n"))
	if err != nil {
		return nil
	}
	return cfg
}

// settle is how long a command waits for a server that is starting or stopping.
const settle = 5 * time.Second

// probe asks whether a server answers at the socket. While one holds the data
// directory but does not answer yet, or any more, it waits. running is false
// when there is none.
func probe(ctx context.Context, dataDir, socket string) (running bool, err error) {
	for end := time.Now().Add(settle); ; {
		err := api.Probe(ctx, socket)
		if !errors.Is(err, api.ErrNotRunning) {
			return err == nil, err
		}
		pid := server.HolderOf(dataDir)
		if pid == 0 {
			return false, nil
		}
		if time.Now().After(end) {
			return false, fmt.Errorf("a server (pid %d) uses the data directory %s but does not answer on %s; if it is starting or stopping, try again in a moment", pid, dataDir, socket)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// client returns a client of the running server, here or where --server says.
func (a *app) client(ctx context.Context) (*api.Client, error) {
	if at := a.remoteServer(); at != "" {
		return a.remoteClient(at)
	}
	dir, socket, err := a.place()
	if err != nil {
		return nil, err
	}
	running, err := probe(ctx, dir, socket)
	if err != nil {
		return nil, err
	}
	if !running {
		return nil, fmt.Errorf("no server is running with the data directory %s; start it with \"portreeve serve\"", dir)
	}
	return api.NewClient(socket), nil
}

// accounts is what the user commands need: the client of a running server, or
// the admin service on the database itself.
type accounts interface {
	CreateUser(ctx context.Context, n admin.NewUser) (account.User, error)
	UpdateUser(ctx context.Context, name string, s admin.Settings) (account.User, error)
	SetPassword(ctx context.Context, name, password string) error
	DeleteUser(ctx context.Context, name string) error
	User(ctx context.Context, name string) (account.User, error)
	Users(ctx context.Context, o admin.ListOptions) ([]account.User, string, error)
	Keys(ctx context.Context, name string) ([]admin.Key, error)
	AddKeys(ctx context.Context, name string, lines []string) ([]admin.Key, error)
	RemoveKey(ctx context.Context, name, which string) (admin.Key, error)
	CreateAll(ctx context.Context, b admin.Batch) (admin.Made, error)
	Access(ctx context.Context, name string, q account.Question) (account.Explanation, error)

	CreateGroup(ctx context.Context, n admin.NewGroup) (account.Group, error)
	UpdateGroup(ctx context.Context, name string, s admin.GroupSettings) (account.Group, error)
	DeleteGroup(ctx context.Context, name string) error
	Group(ctx context.Context, name string) (account.Group, error)
	Groups(ctx context.Context, o admin.ListOptions) ([]account.Group, string, error)
	Members(ctx context.Context, group string, o admin.ListOptions) ([]string, string, error)

	CreateAdministrator(ctx context.Context, n admin.NewAdministrator) (account.Administrator, error)
	UpdateAdministrator(ctx context.Context, name string, s admin.AdministratorSettings) (account.Administrator, error)
	DeleteAdministrator(ctx context.Context, name string) error
	Administrator(ctx context.Context, name string) (account.Administrator, error)
	Administrators(ctx context.Context, o admin.ListOptions) ([]account.Administrator, string, error)
	CreateToken(ctx context.Context, n admin.NewToken) (admin.MadeToken, error)
	Tokens(ctx context.Context, administrator string) ([]account.Token, error)
	DeleteToken(ctx context.Context, id string) error

	Apply(ctx context.Context, s admin.State, o admin.ApplyOptions) (admin.Plan, error)

	EnableTOTP(ctx context.Context, name string) (admin.Enrolled, error)
	DisableTOTP(ctx context.Context, name string) error
	NewRecovery(ctx context.Context, name string) ([]string, error)
	EnableAdministratorTOTP(ctx context.Context, name string) (admin.Enrolled, error)
	DisableAdministratorTOTP(ctx context.Context, name string) error
	NewAdministratorRecovery(ctx context.Context, name string) ([]string, error)
}

// withAccounts runs f against the server that --server names or that runs
// here, or against the database when
// there is none.
func (a *app) withAccounts(cmd *cobra.Command, f func(context.Context, accounts) error) error {
	ctx := cmd.Context()
	if done, err := a.remotely(ctx, func(ctx context.Context, c *api.Client) error { return f(ctx, c) }); done {
		return err
	}
	cfg, err := a.load()
	if err != nil {
		return err
	}
	running, err := probe(ctx, cfg.DataDir, cfg.Admin.Socket)
	if err != nil {
		return err
	}
	if !running {
		return a.inProcess(ctx, cfg, f)
	}
	c := api.NewClient(cfg.Admin.Socket)
	defer c.Close()
	return f(ctx, c)
}
