package drill

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/holdfast/loadtest/rig"
)

const (
	// streamMax bounds a look at the stream of the broker, and the wait for a message of it.
	streamMax = 30 * time.Second
	// brokerStream is the stream that the processes make.
	brokerStream = "HOLDFAST"
)

// runsBroker starts a broker that ends with the stage.
func (s *stage) runsBroker() *rig.Broker {
	s.do(func() error {
		var err error
		s.broker, err = rig.StartBroker()
		return err
	})
	return s.broker
}

// readStream reads all that the broker has. Times of arrival mean nothing here.
func readStream(ctx context.Context, url string, into *arrivals) error {
	ctx, cancel := context.WithTimeout(ctx, streamMax)
	defer cancel()
	nc, err := nats.Connect(url)
	if err != nil {
		return fmt.Errorf("read stream: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("read stream: %w", err)
	}
	stream, err := js.Stream(ctx, brokerStream)
	if err != nil {
		return fmt.Errorf("read stream: %w", err)
	}
	reader, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return fmt.Errorf("read stream: %w", err)
	}
	for left := stream.CachedInfo().State.Msgs; left > 0; left-- {
		m, err := reader.Next(jetstream.FetchMaxWait(streamMax))
		if err != nil {
			return fmt.Errorf("read stream, %d left: %w", left, err)
		}
		into.take(m.Data(), time.Time{})
	}
	return nil
}
