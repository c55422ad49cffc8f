package main

import (
	"math"
	"testing"
)

func TestFioRate_CountsOperationsByTheTimeOfTheJob(t *testing.T) {
	good := `fio: a warning
{"jobs":[{"error":0,"job_runtime":500,"read":{"total_ios":0},"write":{"total_ios":2000}}]}`
	if got, err := fioRate([]byte(good)); err != nil || math.Abs(got-4000) > 1e-9 {
		t.Errorf("rate %v, %v", got, err)
	}
	for _, bad := range []string{
		"", "fio: no such file", `{"jobs":[]}`,
		`{"jobs":[{"error":5,"job_runtime":500,"read":{"total_ios":7}}]}`,
		`{"jobs":[{"error":0,"job_runtime":0,"read":{"total_ios":7}}]}`,
		`{"jobs":[{"error":0,"job_runtime":500,"read":{"total_ios":0}}]}`,
	} {
		if got, err := fioRate([]byte(bad)); err == nil {
			t.Errorf("%q has the rate %v", bad, got)
		}
	}
}
