package service

import (
	"context"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

// Stats says what the store holds.
func (s *Service) Stats(ctx context.Context, _ *sheafv1.StatsRequest) (*sheafv1.StatsResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	st, err := d.Stats(ctx)
	if err != nil {
		return nil, err
	}
	return &sheafv1.StatsResponse{
		Path: s.o.Store, Packs: st.Packs, PackBytes: st.PackBytes, Chunks: st.Chunks, ChunkBytes: st.ChunkBytes,
		PlainBytes: st.PlainBytes, JournalBytes: st.JournalBytes, Snapshots: st.Snapshots,
	}, nil
}

// SetPassphrase replaces the passphrase.
func (s *Service) SetPassphrase(ctx context.Context, r *sheafv1.SetPassphraseRequest) (*sheafv1.SetPassphraseResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := d.SetPassphrase(ctx, r.GetPassphrase()); err != nil {
		return nil, err
	}
	return &sheafv1.SetPassphraseResponse{Passphrase: len(r.GetPassphrase()) > 0}, nil
}

// NewRecovery makes new recovery words. The old ones stay until RetireRecovery.
func (s *Service) NewRecovery(ctx context.Context, _ *sheafv1.NewRecoveryRequest) (*sheafv1.NewRecoveryResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	words, err := d.NewRecovery(ctx)
	if err != nil {
		return nil, err
	}
	return &sheafv1.NewRecoveryResponse{Recovery: words}, nil
}

// RetireRecovery ends all recovery words but those that the caller has shown.
func (s *Service) RetireRecovery(ctx context.Context, r *sheafv1.RetireRecoveryRequest) (*sheafv1.RetireRecoveryResponse, error) {
	ctx, d, release, err := s.use(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := d.RetireRecovery(ctx, r.GetRecovery()); err != nil {
		return nil, err
	}
	return &sheafv1.RetireRecoveryResponse{}, nil
}
