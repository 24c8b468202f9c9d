module nats-jwt

go 1.26.8

require (
	github.com/nats-io/jwt/v2 v2.8.1
	github.com/nats-io/nkeys v0.4.15
)

require (
	golang.org/x/crypto v0.48.0 // indirect
	golang.org/x/sys v0.41.0 // indirect
)
