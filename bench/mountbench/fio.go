package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// A fioReport is what is read of fio's report in JSON.
type fioReport struct {
	Jobs []struct {
		Error   int    `json:"error"`
		Runtime int64  `json:"job_runtime"` // ms, with the fsync at the end
		Read    fioSum `json:"read"`
		Write   fioSum `json:"write"`
	} `json:"jobs"`
}

type fioSum struct {
	IOs int64 `json:"total_ios"`
}

// fioRate returns the operations per second of fio's report. The time counts from the
// first operation to the end of the last fsync.
func fioRate(report []byte) (float64, error) {
	at := slices.Index(report, '{') // warnings come first
	if at < 0 {
		return 0, fmt.Errorf("read fio's report: %q is no JSON", report)
	}
	var r fioReport
	if err := json.Unmarshal(report[at:], &r); err != nil {
		return 0, fmt.Errorf("read fio's report: %w", err)
	}
	if len(r.Jobs) != 1 || r.Jobs[0].Error != 0 || r.Jobs[0].Runtime <= 0 {
		return 0, fmt.Errorf("read fio's report: no figures in it: %s", report)
	}
	j := r.Jobs[0]
	n := cmp.Or(j.Read.IOs, j.Write.IOs)
	if n <= 0 {
		return 0, fmt.Errorf("read fio's report: nothing was done: %s", report)
	}
	return float64(n) / (float64(j.Runtime) / 1000), nil
}
