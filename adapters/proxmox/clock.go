package proxmox

import (
	"context"
	"fmt"
	"time"
)

// Time gives the clock of a node that belongs to the quorum, in whole seconds
// cut off: documents, tokens and tasks are dated by such clocks.
func (h *Host) Time(ctx context.Context) (time.Time, error) {
	at, _, err := h.quorateNode(ctx, "")
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for the time: %w", err)
	}
	return h.timeAt(ctx, at)
}
