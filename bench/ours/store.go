// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"sync"

	"github.com/redis/go-redis/v9"
)

// A store keeps the sessions of a server outside of libssl, as DER.
type store interface {
	put(ctx context.Context, id, der []byte) error
	get(ctx context.Context, id []byte) (der []byte, err error)
}

type inMemory struct{ sessions sync.Map }

func (m *inMemory) put(_ context.Context, id, der []byte) error {
	m.sessions.Store(string(id), der)
	return nil
}

func (m *inMemory) get(_ context.Context, id []byte) ([]byte, error) {
	der, _ := m.sessions.Load(string(id))
	data, _ := der.([]byte)
	return data, nil
}

type inRedis struct{ client *redis.Client }

func newRedis(port string) *inRedis {
	return &inRedis{redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})}
}

func (r *inRedis) put(ctx context.Context, id, der []byte) error {
	return r.client.Set(ctx, string(id), der, 0).Err()
}

func (r *inRedis) get(ctx context.Context, id []byte) ([]byte, error) {
	der, err := r.client.Get(ctx, string(id)).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return der, err
}
