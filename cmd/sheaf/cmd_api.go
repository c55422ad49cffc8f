package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheaf-drive/sheaf/api/gate"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/rest"
)

func (a *app) apiCmd() *cobra.Command {
	var data string
	var headers []string
	c := &cobra.Command{
		Use:   "api METHOD PATH",
		Short: "Make a request of the API, and print the answer as it is",
		Long: `Make a request of the API over the socket of the daemon, or in this process where none runs, and print the answer as it is.
sheaf api openapi prints what there is, and sheaf api schema what --json prints.`,
		Example: `  sheaf api GET /v1/status
  sheaf api POST /v1/folders --data '{"path":"Photos"}'
  sheaf api PUT /v1/files/notes.txt --data @notes.txt`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if !strings.HasPrefix(args[1], "/") {
				return usagef("sheaf api GET /v1/status", "%q is no path of the API", args[1])
			}
			body, err := apiBody(data)
			if err != nil {
				return err
			}
			defer func() { _ = body.Close() }()
			return a.withSession(ctx, func(s *session) error {
				// Without a drive that opens by itself, or with none, the API says so.
				_, _ = s.Drives.Unlock(ctx, &sheafv1.UnlockRequest{})
				return a.request(ctx, s, strings.ToUpper(args[0]), args[1], body, headers)
			})
		},
	}
	c.Flags().StringVar(&data, "data", "", "the body: a `text`, @FILE, or @- for what comes in")
	c.Flags().StringArrayVar(&headers, "header", nil, "a `header`, as in \"Range: bytes=0-9\"; can be given several times")
	c.AddCommand(a.apiOpenAPICmd(), a.apiSchemaCmd(), a.apiCoverageCmd())
	return c
}

// apiBody opens the body of a request.
func apiBody(data string) (io.ReadCloser, error) {
	name, isFile := strings.CutPrefix(data, "@")
	switch {
	case !isFile:
		return io.NopCloser(bytes.NewReader([]byte(data))), nil
	case name == "-":
		return io.NopCloser(os.Stdin), nil
	}
	return os.Open(name)
}

// request makes a request and prints its answer.
func (a *app) request(ctx context.Context, s *session, method, path string, body io.Reader, headers []string) error {
	r, err := http.NewRequestWithContext(ctx, method, sessionURL+path, body)
	if err != nil {
		return usagef("sheaf api GET /v1/status", "%w", err)
	}
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return usagef(`--header "Range: bytes=0-9"`, "%q is no header", h)
		}
		r.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 400 {
		_, err := io.Copy(a.out, resp.Body)
		return err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	var p gate.Problem
	if json.Unmarshal(b, &p) != nil || p.Error == "" {
		return errors.New(resp.Status)
	}
	return coded(sheafv1.Code(sheafv1.Code_value["CODE_"+strings.ToUpper(p.Code)]), p.Hint, "%s", p.Error)
}

func (a *app) apiOpenAPICmd() *cobra.Command {
	return &cobra.Command{
		Use: "openapi", Short: "Print the description of the API, by OpenAPI 3.1", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b, err := rest.Description()
			if err == nil {
				_, err = a.out.Write(b)
			}
			return err
		},
	}
}
