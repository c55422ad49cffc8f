package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/service"
)

// jobFlags are those of all verbs that copy.
type jobFlags struct {
	progress  bool
	dryRun    bool
	verbose   bool
	checksum  bool
	transfers int32
}

func (f *jobFlags) add(flags *pflag.FlagSet) {
	flags.BoolVarP(&f.progress, "progress", "P", false, "show progress, also where no terminal is")
	flags.BoolVarP(&f.dryRun, "dry-run", "n", false, "only say what would be done")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "name what is done")
	flags.BoolVarP(&f.checksum, "checksum", "c", false, "compare bytes, not only size and time")
	flags.Int32Var(&f.transfers, "transfers", 4, "files in flight, 1 to 16")
}

func (f *jobFlags) options() *sheafv1.CopyOptions {
	return &sheafv1.CopyOptions{DryRun: f.dryRun, Transfers: f.transfers, Checksum: f.checksum}
}

// runJob starts a job, shows how far it is, and returns it when it has ended, with an error if
// not all was done. When ctx is done it cancels the job.
func (a *app) runJob(ctx context.Context, s *session, r *sheafv1.StartRequest, f *jobFlags) (*sheafv1.Job, error) {
	j, err := s.Jobs.Start(ctx, r)
	if err != nil {
		return nil, err
	}
	if j, err = a.watch(ctx, s, j, f.progress); err != nil {
		if ctx.Err() != nil {
			_, _ = s.Jobs.Cancel(context.WithoutCancel(ctx), &sheafv1.CancelRequest{Id: j.GetId()})
		}
		return j, err
	}
	if a.json {
		if err := a.object("job", j); err != nil {
			return j, err
		}
	} else {
		a.printJob(j, f)
	}
	return j, jobError(j)
}

// watch returns a job when it has ended. It shows progress at a terminal, or if always is set.
func (a *app) watch(ctx context.Context, s *session, j *sheafv1.Job, always bool) (*sheafv1.Job, error) {
	st, err := s.Jobs.Watch(ctx, &sheafv1.WatchRequest{Id: j.GetId()})
	if err != nil {
		return j, err
	}
	defer func() { _ = st.Close() }()
	show := !a.quiet && (always || terminal(a.out) && terminal(a.err) && !a.json)
	live := terminal(a.err)
	var shown time.Time
	for st.Receive() {
		j = st.Msg().GetJob()
		now := time.Now()
		if !show || j.GetState() != sheafv1.JobState_JOB_STATE_RUNNING && !live {
			continue
		}
		switch {
		case a.json && now.Sub(shown) >= time.Second:
			err = a.object("progress", j)
			shown = now
		case a.json:
		case live:
			_, err = fmt.Fprintf(a.err, "\r%s\x1b[K", a.progressLine(j))
		case now.Sub(shown) >= time.Second:
			_, err = fmt.Fprintln(a.err, a.progressLine(j))
			shown = now
		}
		if err != nil {
			return j, err
		}
	}
	if show && live && !a.json {
		_, _ = fmt.Fprint(a.err, "\r\x1b[K")
	}
	return j, st.Err()
}

// progressLine is how far a job is, in one line.
func (a *app) progressLine(j *sheafv1.Job) string {
	about := ""
	if !j.GetCounted() {
		about = "+"
	}
	parts := []string{j.GetWork()}
	if total := j.GetBytesTotal(); total > 0 {
		parts = append(parts, fmt.Sprintf("%d %%", j.GetBytes()*100/max(total, 1)),
			fmt.Sprintf("%s of %s%s", a.size(j.GetBytes()), a.size(total), about))
	}
	if total := j.GetItemsTotal(); total > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d%s items", j.GetItems(), total, about))
	}
	if j.GetRate() > 0 {
		parts = append(parts, a.size(j.GetRate())+"/s")
	}
	if j.GetRemainingMs() > 0 {
		parts = append(parts, "still "+(time.Duration(j.GetRemainingMs())*time.Millisecond).Round(time.Second).String())
	}
	if j.GetFailed() > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", j.GetFailed()))
	}
	return strings.Join(parts, ", ")
}

// printJob says, for people, what a job that copies did.
func (a *app) printJob(j *sheafv1.Job, f *jobFlags) {
	if f.dryRun || f.verbose {
		for _, what := range j.GetActions() {
			a.say("%s", a.name(what))
		}
	}
	for _, x := range j.GetFailures() {
		_, _ = fmt.Fprintf(a.err, "sheaf: %s: %s\n", printable(a.name(x.GetPath())), printable(a.name(x.GetError())))
	}
	did := "copied"
	if f.dryRun {
		did = "would copy"
	}
	line := fmt.Sprintf("%s %s of %s items, %s", did, count(max(0, j.GetItems()-j.GetSkipped()-j.GetFailed())), count(j.GetItems()), a.size(j.GetBytes()))
	if j.GetSkipped() > 0 {
		line += fmt.Sprintf("; %d were there", j.GetSkipped())
	}
	if j.GetRenamed() > 0 {
		line += fmt.Sprintf("; %d kept under another name", j.GetRenamed())
	}
	if j.GetFailed() > 0 {
		line += fmt.Sprintf("; %d failed", j.GetFailed())
	}
	if d := j.GetEnded().AsTime().Sub(j.GetStarted().AsTime()); d >= time.Second && !f.dryRun {
		line += fmt.Sprintf("; %s, %s/s", d.Round(time.Second), a.size(j.GetRate()))
	}
	a.say("%s", line)
}

// jobError is the error that a job's end means.
func jobError(j *sheafv1.Job) error {
	switch j.GetState() {
	case sheafv1.JobState_JOB_STATE_DONE:
		return nil
	case sheafv1.JobState_JOB_STATE_PARTIAL:
		return coded(sheafv1.Code_CODE_PARTIAL, "the same command again does what is missing", "%d of %d items failed", j.GetFailed(), j.GetItems())
	}
	return &service.Error{Code: j.GetCode(), Hint: j.GetHint(), Err: fmt.Errorf("%s: %s", j.GetWork(), j.GetError())}
}

// count prints a number of things.
func count(n int64) string { return strconv.FormatInt(n, 10) }
