module sslctx/bench

go 1.25.0

require (
	github.com/libp2p/go-openssl v0.1.0
	github.com/redis/go-redis/v9 v9.17.3
	github.com/spacemonkeygo/openssl v0.0.0-20181017203307-c2dcc5cca94a
	sslctx v0.0.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/dgryski/go-rendezvous v0.0.0-20200823014737-9f7001d12a5f // indirect
	github.com/mattn/go-pointer v0.0.1 // indirect
	github.com/spacemonkeygo/spacelog v0.0.0-20180420211403-2296661a0572 // indirect
	golang.org/x/sys v0.36.0 // indirect
)

replace sslctx => ../
