// Package agent is the daemon.
package agent
