// Writ carries out signed one-shot orders for destructive operations on
// Proxmox VE, each exactly once, and can prove what it did.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The first interrupt asks for an orderly end; the handler is then taken
	// away, so that a second one ends the process at once. Neither can harm
	// the record: every step is durable before the next.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
