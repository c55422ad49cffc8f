package rpc

import (
	"context"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (x folders) Add(ctx context.Context, r *sheafv1.FoldersAddRequest) (*sheafv1.Folder, error) {
	return x.s.AddFolder(ctx, r)
}

func (x folders) List(ctx context.Context, r *sheafv1.FoldersListRequest) (*sheafv1.FoldersListResponse, error) {
	return x.s.ListFolders(ctx, r)
}

func (x folders) Remove(ctx context.Context, r *sheafv1.FoldersRemoveRequest) (*sheafv1.FoldersRemoveResponse, error) {
	return x.s.RemoveFolder(ctx, r)
}

func (x folders) ReadSyncthing(ctx context.Context, r *sheafv1.FoldersReadSyncthingRequest) (*sheafv1.FoldersReadSyncthingResponse, error) {
	return x.s.ReadSyncthing(ctx, r)
}
