package service

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

type noWork struct{}

func (noWork) do(context.Context, Drive) error { return nil }
func (noWork) show(*sheafv1.Job)               {}

// A name is any bytes, and an error may have one in it. What is told of a job is text all the same, or nobody could list jobs.
func TestJob_OfAnErrorWithAnyBytesCanBeTold(t *testing.T) {
	j := &job{id: "1", kind: "copy", run: &run{work: noWork{}, ended: time.Now(), err: &Error{
		Code: sheafv1.Code_CODE_NOT_FOUND, Err: errors.New("copy \xff: no such file"), Hint: "sheaf ls \xff",
	}}}
	if _, err := proto.Marshal(j.show(time.Now())); err != nil {
		t.Error(err)
	}
}
