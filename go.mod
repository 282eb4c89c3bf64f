module sslctx

go 1.25.0

require (
	github.com/spacemonkeygo/openssl v0.0.0-20181017203307-c2dcc5cca94a
	golang.org/x/net v0.44.0
	pgregory.net/rapid v1.3.0
)

require (
	github.com/spacemonkeygo/spacelog v0.0.0-20180420211403-2296661a0572 // indirect
	golang.org/x/sys v0.36.0 // indirect
)
