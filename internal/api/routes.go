package api

import (
	"net/http"
	"slices"

	"github.com/portreeve/portreeve/internal/account"
	"github.com/portreeve/portreeve/internal/admin"
	"github.com/portreeve/portreeve/internal/ports"
)

// route is one operation: what serves it and what the OpenAPI document says.
type route struct {
	id, method, path, summary string
	scope                     admin.Scope
	query                     []param
	in, out                   any // zero values of the bodies; nil: none
	status                    int
	versioned                 bool // the answer has an ETag, a change honours If-Match
	run                       func(http.ResponseWriter, *http.Request) error
}

// param is a query parameter; all are optional unless required.
type param struct {
	name, kind, doc string // kind: "string", "integer"
	required        bool
}

var paging = []param{
	{name: "after", kind: "string", doc: "Names after this one: the value of next of the page before."},
	{name: "match", kind: "string", doc: "Only names and comments that contain this text."},
	{name: "limit", kind: "integer", doc: "The most entries in one page, 1 to 500."},
}

var reason = param{name: "reason", kind: "string", doc: "Text for the client and the log."}

// routes is the one table of the API. The handlers check scopes through the
// admin service; the scope here is for the document.
func (h *handler) routes() []route {
	const ok, made, none = http.StatusOK, http.StatusCreated, http.StatusNoContent
	users := append(paging[:3:3], param{name: "group", kind: "string", doc: "Only members of this group."})
	return append(slices.Concat(h.trailRoutes(), h.totpRoutes(), h.stateRoutes(), h.hookRoutes(), h.transcriptRoutes()), []route{
		{"listUsers", "GET", "/v1/users", "List the accounts, in the order of their names", admin.ScopeRead, users, nil, UserList{}, ok, false, h.listUsers},
		{"createUser", "POST", "/v1/users", "Make an account and its home directory", admin.ScopeUsers, nil, admin.NewUser{}, account.User{}, made, true, h.createUser},
		{"getUser", "GET", "/v1/users/{name}", "Show an account", admin.ScopeRead, nil, nil, account.User{}, ok, true, h.showUser},
		{"updateUser", "PATCH", "/v1/users/{name}", "Change an account: only what is given", admin.ScopeUsers, nil, admin.Settings{}, account.User{}, ok, true, h.updateUser},
		{"deleteUser", "DELETE", "/v1/users/{name}", "Remove an account and end its sessions; files stay", admin.ScopeUsers, nil, nil, nil, none, false, h.deleteUser},
		{"setPassword", "PUT", "/v1/users/{name}/password", "Set the password of an account", admin.ScopeUsers, nil, password{}, nil, none, false, h.setPassword},
		{"explainAccess", "GET", "/v1/users/{name}/access", "Tell what an account may do at a path, and which rule decides", admin.ScopeRead, []param{
			{name: "path", kind: "string", doc: "Path as the user sees it.", required: true},
			{name: "protocol", kind: "string", doc: "Judge a log-in by this protocol."},
			{name: "from", kind: "string", doc: "Judge a log-in from this IP address."},
			{name: "at", kind: "string", doc: "Judge a log-in at this time (RFC 3339)."},
		}, nil, account.Explanation{}, ok, false, h.access},
		{"listKeys", "GET", "/v1/users/{name}/keys", "List the SSH keys of an account", admin.ScopeRead, nil, nil, KeyList{}, ok, false, h.listKeys},
		{"addKeys", "POST", "/v1/users/{name}/keys", "Give an account SSH keys", admin.ScopeUsers, nil, newKeys{}, KeyList{}, ok, false, h.addKeys},
		{"removeKey", "DELETE", "/v1/users/{name}/keys", "Take an SSH key from an account", admin.ScopeUsers, []param{{name: "key", kind: "string", doc: "Its fingerprint or number.", required: true}}, nil, KeyList{}, ok, false, h.removeKey},
		{"createAll", "POST", "/v1/accounts", "Make groups and accounts together: all of them or none", admin.ScopeUsers, nil, admin.Batch{}, admin.Made{}, made, false, h.createAll},
		{"listGroups", "GET", "/v1/groups", "List the groups, in the order of their names", admin.ScopeRead, paging, nil, GroupList{}, ok, false, h.listGroups},
		{"createGroup", "POST", "/v1/groups", "Make a group", admin.ScopeGroups, nil, admin.NewGroup{}, account.Group{}, made, true, h.createGroup},
		{"getGroup", "GET", "/v1/groups/{name}", "Show a group", admin.ScopeRead, nil, nil, account.Group{}, ok, true, h.showGroup},
		{"updateGroup", "PATCH", "/v1/groups/{name}", "Change a group: only what is given", admin.ScopeGroups, nil, admin.GroupSettings{}, account.Group{}, ok, true, h.updateGroup},
		{"deleteGroup", "DELETE", "/v1/groups/{name}", "Remove a group that has no members", admin.ScopeGroups, nil, nil, nil, none, false, h.deleteGroup},
		{"listMembers", "GET", "/v1/groups/{name}/members", "List the names of a group's members", admin.ScopeRead, paging[:3], nil, MemberList{}, ok, false, h.members},
		{"listAdministrators", "GET", "/v1/administrators", "List the administrators", admin.ScopeAdmins, paging, nil, AdministratorList{}, ok, false, h.listAdministrators},
		{"createAdministrator", "POST", "/v1/administrators", "Make an administrator", admin.ScopeAdmins, nil, admin.NewAdministrator{}, account.Administrator{}, made, true, h.createAdministrator},
		{"getAdministrator", "GET", "/v1/administrators/{name}", "Show an administrator", admin.ScopeAdmins, nil, nil, account.Administrator{}, ok, true, h.showAdministrator},
		{"updateAdministrator", "PATCH", "/v1/administrators/{name}", "Change an administrator: only what is given", admin.ScopeAdmins, nil, admin.AdministratorSettings{}, account.Administrator{}, ok, true, h.updateAdministrator},
		{"deleteAdministrator", "DELETE", "/v1/administrators/{name}", "Remove an administrator and its tokens", admin.ScopeAdmins, nil, nil, nil, none, false, h.deleteAdministrator},
		{"listTokens", "GET", "/v1/tokens", "List the tokens, oldest first", admin.ScopeAdmins, []param{{name: "administrator", kind: "string", doc: "Only of this administrator."}}, nil, TokenList{}, ok, false, h.listTokens},
		{"createToken", "POST", "/v1/tokens", "Make a token; its secret is in this answer and nowhere else", admin.ScopeAdmins, nil, admin.NewToken{}, admin.MadeToken{}, made, false, h.createToken},
		{"deleteToken", "DELETE", "/v1/tokens/{id}", "End a token", admin.ScopeAdmins, nil, nil, nil, none, false, h.deleteToken},
		{"listSessions", "GET", "/v1/sessions", "List the live sessions, oldest first", admin.ScopeRead, nil, nil, SessionList{}, ok, false, h.listSessions},
		{"kickSession", "DELETE", "/v1/sessions/{id}", "End a session", admin.ScopeSessions, []param{reason}, nil, nil, none, false, h.kickSession},
		{"kickUser", "DELETE", "/v1/sessions", "End all sessions of a user", admin.ScopeSessions, []param{{name: "user", kind: "string", doc: "Whose sessions.", required: true}, reason}, nil, kicked{}, ok, false, h.kickUser},
		{"listSessionData", "GET", "/v1/sessions/{id}/data", "Show the data connections of a session", admin.ScopeRead, nil, nil, DataList{}, ok, false, h.listData},
		{"listData", "GET", "/v1/data", "Show the recent data connections", admin.ScopeRead, nil, nil, DataList{}, ok, false, h.listData},
		{"listPorts", "GET", "/v1/ports", "Show which passive ports are open now", admin.ScopeRead, nil, nil, Ports{}, ok, false, h.listPorts},
		{"getMatrix", "GET", "/v1/ports/matrix", "Show where data connections work and where not", admin.ScopeRead, nil, nil, ports.Matrix{}, ok, false, h.matrix},
		{"getStatus", "GET", "/v1/status", "Show the state of the server", admin.ScopeRead, nil, nil, Status{}, ok, false, h.status},
		{"reload", "POST", "/v1/reload", "Read the configuration file again", admin.ScopeServer, nil, nil, Reloaded{}, ok, false, h.reload},
		{"stop", "POST", "/v1/stop", "Stop the server when transfers are done", admin.ScopeServer, []param{reason}, nil, nil, http.StatusAccepted, false, h.stop},
		{"getMe", "GET", "/v1/me", "Tell who calls and what they may do", "", nil, nil, Me{}, ok, false, h.me},
		{"getSignIn", "GET", "/v1/sign-in", "Tell where administrators log in, without a token", "", nil, nil, SignIn{}, ok, false, h.signIn},
		{"getContract", "GET", "/v1/openapi.yaml", "This document", "", nil, nil, "", ok, false, h.contract},
	}...)
}

// delegated are the operations that keep to the groups of a limited
// administrator by themselves. All others are refused to one.
var delegated = map[string]bool{
	"listUsers": true, "createUser": true, "getUser": true, "updateUser": true, "deleteUser": true, "setPassword": true, "enableTOTP": true, "disableTOTP": true, "newRecovery": true, "explainAccess": true,
	"listGroups": true, "getGroup": true, "listSessions": true, "kickSession": true, "kickUser": true, "getStatus": true, "getContract": true, "getSignIn": true,
}
