package rpc

import (
	"context"

	"connectrpc.com/connect"

	"github.com/sheaf-drive/sheaf/api/proto/sheafv1"
)

func (p places) List(ctx context.Context, r *sheafv1.PlacesListRequest, out *connect.ServerStream[sheafv1.PlacesListResponse]) error {
	return p.s.ListPlace(ctx, r, out.Send)
}

func (p places) Read(ctx context.Context, r *sheafv1.PlacesReadRequest, out *connect.ServerStream[sheafv1.PlacesReadResponse]) error {
	return p.s.ReadPlace(ctx, r, out.Send)
}

func (p places) Copy(ctx context.Context, r *sheafv1.PlacesCopyRequest, out *connect.ServerStream[sheafv1.PlacesCopyResponse]) error {
	return p.s.CopyPlaces(ctx, r, out.Send)
}

func (p places) Move(ctx context.Context, r *sheafv1.PlacesMoveRequest) (*sheafv1.PlacesMoveResponse, error) {
	return p.s.MovePlace(ctx, r)
}

func (p places) Remove(ctx context.Context, r *sheafv1.PlacesRemoveRequest) (*sheafv1.PlacesRemoveResponse, error) {
	return p.s.RemovePlace(ctx, r)
}

func (p places) Check(ctx context.Context, r *sheafv1.PlacesCheckRequest, out *connect.ServerStream[sheafv1.PlacesCheckResponse]) error {
	return p.s.CheckPlaces(ctx, r, out.Send)
}
