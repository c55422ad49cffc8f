package rpc

import (
	"context"

	"connectrpc.com/connect"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (x rules) Run(ctx context.Context, r *sheafv1.RulesRunRequest, out *connect.ServerStream[sheafv1.RulesRunResponse]) error {
	return x.s.RunRule(ctx, r, out.Send)
}

func (x rules) Preview(ctx context.Context, r *sheafv1.RulesPreviewRequest, out *connect.ServerStream[sheafv1.RulesRunResponse]) error {
	return x.s.PreviewRule(ctx, r, out.Send)
}

func (x rules) Add(ctx context.Context, r *sheafv1.RulesAddRequest) (*sheafv1.Rule, error) {
	return x.s.AddRule(ctx, r)
}

func (x rules) List(ctx context.Context, r *sheafv1.RulesListRequest) (*sheafv1.RulesListResponse, error) {
	return x.s.ListRules(ctx, r)
}

func (x rules) Pause(ctx context.Context, r *sheafv1.RulesPauseRequest) (*sheafv1.Rule, error) {
	return x.s.PauseRule(ctx, r)
}

func (x rules) Resume(ctx context.Context, r *sheafv1.RulesResumeRequest) (*sheafv1.Rule, error) {
	return x.s.ResumeRule(ctx, r)
}

func (x rules) Edit(ctx context.Context, r *sheafv1.RulesEditRequest) (*sheafv1.Rule, error) {
	return x.s.EditRule(ctx, r)
}

func (x rules) Remove(ctx context.Context, r *sheafv1.RulesRemoveRequest) (*sheafv1.RulesRemoveResponse, error) {
	return x.s.RemoveRule(ctx, r)
}

func (x rules) Explain(ctx context.Context, r *sheafv1.RulesExplainRequest) (*sheafv1.RulesExplainResponse, error) {
	return x.s.ExplainRule(ctx, r)
}

func (x rules) Conflicts(ctx context.Context, r *sheafv1.RulesConflictsRequest) (*sheafv1.RulesConflictsResponse, error) {
	return x.s.RuleConflicts(ctx, r)
}

func (x rules) Dismiss(ctx context.Context, r *sheafv1.RulesDismissRequest) (*sheafv1.RulesDismissResponse, error) {
	return x.s.DismissRuleConflict(ctx, r)
}

func (x rules) Accept(ctx context.Context, r *sheafv1.RulesAcceptRequest) (*sheafv1.Rule, error) {
	return x.s.AcceptRule(ctx, r)
}

func (x rules) Ignored(ctx context.Context, r *sheafv1.RulesIgnoredRequest) (*sheafv1.RulesIgnoredResponse, error) {
	return x.s.IgnoredByRule(ctx, r)
}

func (x rules) ConvertIgnore(ctx context.Context, r *sheafv1.RulesConvertIgnoreRequest) (*sheafv1.RulesConvertIgnoreResponse, error) {
	return x.s.ConvertIgnore(ctx, r)
}
