package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"example.com/holdfast/client"
	"example.com/holdfast/internal/problem"
)

// A transfer is created, which holds its money, and awaited.
func ExampleClient_CreateTransfer() {
	server := httptest.NewServer(exampleServer()) // stands for http://127.0.0.1:8080
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	c, err := client.New(server.URL, "hf_key")
	if err != nil {
		panic(err)
	}
	t, err := c.CreateTransfer(ctx, client.NewTransfer{
		FromAccount: cash, ToAccount: bank, Amount: client.Amount{Value: 125, Currency: "EUR"},
		ClientReference: "invoice-7",
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(t.Status)
	t, err = c.AwaitTransfer(ctx, t.ID)
	if err != nil {
		panic(err)
	}
	fmt.Println(t.Status)
	// Output:
	// accepted
	// settled
}

// A refusal says whether to try again, and whether a new key makes sense.
func ExampleProblem() {
	server := httptest.NewServer(refuse(problem.InsufficientFunds, ""))
	defer server.Close()

	c, err := client.New(server.URL, "hf_key", client.WithHTTP(&http.Client{Timeout: time.Minute}))
	if err != nil {
		panic(err)
	}
	_, err = c.CreateTransfer(context.Background(), order())
	if p, ok := errors.AsType[*client.Problem](err); ok {
		fmt.Println(p.Code, p.Retryable, p.SafeNewKey)
	}
	// Output: insufficient_funds false true
}

// A key of your own makes a call the same call after a restart of your program.
func ExampleWithKey() {
	server := httptest.NewServer(exampleServer())
	defer server.Close()

	c, err := client.New(server.URL, "hf_key")
	if err != nil {
		panic(err)
	}
	t, err := c.CreateTransfer(context.Background(), order(), client.WithKey("invoice-7"))
	fmt.Println(t.Status, err)
	// Output: accepted <nil>
}

// A preview takes the real path and changes nothing.
func ExampleClient_PreviewTransfers() {
	server := httptest.NewServer(exampleServer())
	defer server.Close()

	c, err := client.New(server.URL, "hf_key")
	if err != nil {
		panic(err)
	}
	results, err := c.PreviewTransfers(context.Background(), []client.NewTransfer{order()})
	if err != nil {
		panic(err)
	}
	for _, r := range results {
		fmt.Println(r.Status, r.Transfer.Status)
	}
	// Output: 202 accepted
}
