// A static Go program whose collector never rests: with GOGC=1 the runtime sends its threads SIGURG
// all the time (runtime/preempt.go), which meets system calls that are held for the agent.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	workers  = 50
	requests = 10
	size     = 10000
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// Keeps the collector and so the preemption signals going until the context ends. It makes way for
// others: a call that is held gives its turn to whatever wants to run, which is ten milliseconds of
// a goroutine that only computes, guard or not (runtime/proc.go, forcePreemptNS).
func allocate(ctx context.Context) {
	var kept [][]byte
	for ctx.Err() == nil {
		for count := 0; count < 100; count++ {
			kept = append(kept, make([]byte, 4096))
		}
		if len(kept) > 1000 {
			kept = nil
		}
		runtime.Gosched()
	}
}

func echo(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		check(err)
		go func() {
			io.Copy(connection, connection)
			connection.Close()
		}()
	}
}

// Every worker makes connections of its own; each has to work.
func parallel(one func() int) int64 {
	var total int64
	var group sync.WaitGroup
	for worker := 0; worker < workers; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for request := 0; request < requests; request++ {
				atomic.AddInt64(&total, int64(one()))
			}
		}()
	}
	group.Wait()
	return total
}

func dial(network, address string) int {
	connection, err := net.Dial(network, address)
	check(err)
	defer connection.Close()
	_, err = connection.Write(make([]byte, size))
	check(err)
	count, err := io.ReadFull(connection, make([]byte, size))
	check(err)
	return count
}

func get(client *http.Client, url string) int {
	answer, err := client.Get(url)
	check(err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	check(err)
	return len(body)
}

func datagrams() int {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	check(err)
	client, err := net.ListenPacket("udp", "127.0.0.1:0")
	check(err)
	total := 0
	buffer := make([]byte, 2000)
	for round := 0; round < 200; round++ {
		_, err = client.WriteTo(make([]byte, 1000), server.LocalAddr())
		check(err)
		// The same datagram may have come twice; one is enough.
		check(server.SetReadDeadline(time.Now().Add(20 * time.Second)))
		count, _, err := server.ReadFrom(buffer)
		check(err)
		total += count
	}
	return total
}

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for allocator := 0; allocator < 2; allocator++ {
		go allocate(ctx)
	}
	tcp, err := net.Listen("tcp", "localhost:0")
	check(err)
	go echo(tcp)
	unix, err := net.Listen("unix", "/tmp/work/go.sock")
	check(err)
	go echo(unix)
	fmt.Println("tcp", parallel(func() int { return dial("tcp", tcp.Addr().String()) }))
	fmt.Println("unix", parallel(func() int { return dial("unix", "/tmp/work/go.sock") }))
	fmt.Println("udp", datagrams())

	web, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	body := strings.Repeat("x", size)
	go http.Serve(web, http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		io.WriteString(out, body)
	}))
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	url := "http://" + web.Addr().String() + "/"
	fmt.Println("http", parallel(func() int { return get(fresh, url) }))
	fmt.Println("far", get(fresh, "http://"+os.Getenv("OAKUM_FAR")+":8080/bytes/100000"))
	_, err = net.DialTimeout("tcp", "127.0.0.1:1", 5*time.Second)
	fmt.Println("refused", err)
	addresses, err := net.LookupHost("localhost")
	fmt.Println("localhost", len(addresses) > 0, err)
}
