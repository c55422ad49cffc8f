package service

import (
	"context"
	"time"

	"github.com/sheaf-drive/sheaf/api/access"
	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
	"github.com/sheaf-drive/sheaf/api/proto/wirepath"
)

// tokens returns where tokens are kept.
func (s *Service) tokens() (*access.Store, error) {
	if s.o.Tokens == nil {
		return nil, errorf(sheafv1.Code_CODE_UNSUPPORTED, "", "there are no tokens here")
	}
	return s.o.Tokens, nil
}

func tokenOf(t access.Token) *sheafv1.Token {
	return &sheafv1.Token{
		Id: t.ID, Label: t.Label, ReadOnly: t.ReadOnly, Folder: wirepath.Encode(t.Folder), Services: t.Services,
		Created: stamp(t.Created), Expires: stamp(t.Expires), Used: stamp(t.Used),
	}
}

// CreateToken makes a token.
func (s *Service) CreateToken(_ context.Context, r *sheafv1.TokensCreateRequest) (*sheafv1.TokensCreateResponse, error) {
	store, err := s.tokens()
	if err != nil {
		return nil, err
	}
	folder, err := clean(r.GetFolder())
	if err != nil {
		return nil, err
	}
	const most = 1 << 32 // seconds, far above what is allowed
	life := time.Duration(max(0, min(r.GetExpiresSeconds(), most))) * time.Second
	t, secret, err := store.Create(access.Token{
		Label: r.GetLabel(), ReadOnly: r.GetReadOnly(), Folder: folder, Services: r.GetServices(),
	}, life)
	if err != nil {
		return nil, err
	}
	return &sheafv1.TokensCreateResponse{Token: tokenOf(t), Secret: secret}, nil
}

// Tokens has all tokens.
func (s *Service) Tokens(context.Context, *sheafv1.TokensListRequest) (*sheafv1.TokensListResponse, error) {
	store, err := s.tokens()
	if err != nil {
		return nil, err
	}
	all, err := store.List()
	if err != nil {
		return nil, err
	}
	var resp sheafv1.TokensListResponse
	for _, t := range all {
		resp.Tokens = append(resp.Tokens, tokenOf(t))
	}
	return &resp, nil
}

// RevokeTokens ends tokens.
func (s *Service) RevokeTokens(_ context.Context, r *sheafv1.TokensRevokeRequest) (*sheafv1.TokensRevokeResponse, error) {
	store, err := s.tokens()
	if err != nil {
		return nil, err
	}
	if err := store.Revoke(r.GetIds()...); err != nil {
		return nil, err
	}
	return &sheafv1.TokensRevokeResponse{}, nil
}
