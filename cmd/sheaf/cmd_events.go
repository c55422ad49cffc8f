package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (a *app) eventsCmd() *cobra.Command {
	var after string
	c := &cobra.Command{
		Use:   "events",
		Short: "Print what happens, as it happens: changes of the drive, jobs, mounts, replicas, rules",
		Long: `Print what happens, as it happens, until it is interrupted. Each event has a cursor; with --after, what happened since that is
printed first, and nothing is left out. If that is not known any more, because the daemon was started anew or it is too long ago, the first line says so.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			s := a.dial(ctx)
			if s == nil {
				return errNoDaemon()
			}
			defer func() { _ = s.Close(ctx) }()
			st, err := s.Events.Watch(ctx, &sheafv1.EventsWatchRequest{After: after})
			if err != nil {
				return err
			}
			defer func() { _ = st.Close() }()
			for st.Receive() {
				if a.json {
					err = a.object("event", st.Msg())
				} else {
					_, err = a.out.Write([]byte(a.eventLine(st.Msg()) + "\n"))
				}
				if err != nil {
					return err
				}
			}
			return st.Err()
		},
	}
	c.Flags().StringVar(&after, "after", "", "begin behind the event with this `cursor`")
	return c
}

// eventLine says in a line what happened.
func (a *app) eventLine(e *sheafv1.Event) string {
	parts := []string{clock(e.GetTime()), e.GetCursor(), word(e.GetKind())}
	if e.GetPath() != "" {
		parts = append(parts, a.name(e.GetPath()))
	}
	switch e.GetKind() {
	case sheafv1.EventKind_EVENT_KIND_JOB:
		parts = append(parts, e.GetJob(), e.GetWork(), word(e.GetState()))
	case sheafv1.EventKind_EVENT_KIND_REPLICA:
		how := "away"
		if e.GetOnline() {
			how = "online"
		}
		if e.GetComplete() {
			how += ", has all"
		}
		parts = append(parts, printable(e.GetReplica()), how)
	case sheafv1.EventKind_EVENT_KIND_RULE:
		parts = append(parts, printable(e.GetRule()), word(e.GetRuleState()), fmt.Sprintf("%d steps", e.GetSteps()))
		if e.GetError() != "" {
			parts = append(parts, printable(a.name(e.GetError())))
		}
		if e.GetWaits() != "" {
			parts = append(parts, "waits for "+printable(e.GetWaits()))
		}
	case sheafv1.EventKind_EVENT_KIND_RESET:
		parts = append(parts, "(what happened before is not known: look at all anew)")
	}
	if e.GetDeviceName() != "" {
		parts = append(parts, "by "+printable(e.GetDeviceName()))
	}
	return strings.Join(parts, "  ")
}
