// Package admin owns each administrative operation, once, for the command
// line, the API and later the web: it checks, stores in one transaction, and
// emits the event by which live sessions are re-evaluated. It does not speak
// HTTP (api does) and does not hold policy (account does).
package admin
