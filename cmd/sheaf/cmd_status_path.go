package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// statusOf says where files are.
func (a *app) statusOf(ctx context.Context, args []string) error {
	return a.withDrive(ctx, args, func(s *session, ps []place) error {
		var missing []string
		rows := [][]string{{"state", "copies", "files", "size", "here", "queued", "path"}}
		for i, p := range ps {
			w, err := s.Custody.Where(ctx, &sheafv1.WhereRequest{Path: p.wire()})
			if err != nil {
				return err
			}
			if a.json {
				if err := a.object("custody", w); err != nil {
					return err
				}
				continue
			}
			rows = append(rows, a.custodyRow(w, args[i]))
			for _, h := range w.GetMissingAt() {
				missing = append(missing, fmt.Sprintf("%s: %s that are not on this device are at %s", printable(args[i]), a.size(h.GetBytes()), holderText(h)))
			}
		}
		if a.json || a.quiet {
			return nil
		}
		if err := a.table(rows); err != nil {
			return err
		}
		for _, line := range missing {
			a.say("%s", line)
		}
		return nil
	})
}

// holderText names a place that has what is not here, and says whether it can be had.
func holderText(h *sheafv1.Holder) string {
	who := printable(h.GetName())
	if name, ok := strings.CutPrefix(h.GetAt(), "device "); ok {
		who = "the device " + printable(name)
	}
	switch {
	case !h.GetAway():
		return who
	case h.GetSeen() == nil:
		return who + ", which is away"
	}
	return who + ", which is away: last seen " + clock(h.GetSeen())
}

// placeWords are the states in words.
var placeWords = map[sheafv1.Place]string{
	sheafv1.Place_PLACE_REMOTE: "remote", sheafv1.Place_PLACE_LOCAL: "local", sheafv1.Place_PLACE_PINNED: "pinned", sheafv1.Place_PLACE_QUEUED: "queued",
}

func (a *app) custodyRow(w *sheafv1.WhereResponse, arg string) []string {
	state := placeWords[w.GetPlace()]
	switch {
	case state == "":
		state = "no content"
	case w.GetPinned() && w.GetPlace() != sheafv1.Place_PLACE_PINNED:
		state += ", pinned"
	}
	here := "all"
	switch {
	case w.GetPartial():
		here = a.size(w.GetHereBytes())
	case w.GetHereBytes() < w.GetStoredBytes():
		here = fmt.Sprintf("%s of %s", a.size(w.GetHereBytes()), a.size(w.GetStoredBytes()))
	}
	queued := "none"
	if w.GetQueuedBytes() > 0 {
		queued = a.size(w.GetQueuedBytes())
	}
	return []string{
		state, fmt.Sprintf("%d of %d", w.GetCopies(), w.GetPlaces()), count(w.GetFiles()), a.size(w.GetBytes()), here, queued, printable(arg),
	}
}
