package rig

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// brokerMax bounds a start of the broker.
const brokerMax = 20 * time.Second

// Broker is a NATS server in this process, on a free port of this machine. It keeps its port and its files
// when it is stopped and started again.
type Broker struct {
	options server.Options
	server  *server.Server
}

// StartBroker starts a broker with JetStream.
func StartBroker() (*Broker, error) {
	dir, err := os.MkdirTemp("", "holdfast-broker-")
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	b := &Broker{options: server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true,
	}}
	if err := b.Start(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Start lets it serve again after Stop.
func (b *Broker) Start() error {
	options := b.options
	s, err := server.NewServer(&options)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	go s.Start() // until Stop
	if !s.ReadyForConnections(brokerMax) {
		s.Shutdown()
		return errors.New("the broker does not start")
	}
	b.server, b.options.Port = s, options.Port
	return nil
}

// URL is where it is.
func (b *Broker) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", b.options.Port) }

// Stop ends it as a server that goes down does: its files stay.
func (b *Broker) Stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// Close ends it and removes its files.
func (b *Broker) Close() error {
	if b.server != nil {
		b.Stop()
	}
	return os.RemoveAll(b.options.StoreDir)
}
