// A static Go program: its own resolver, its own epoll, no libc.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

func get(client *http.Client, url string) int64 {
	response, err := client.Get(url)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer response.Body.Close()
	length, err := io.Copy(io.Discard, response.Body)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return length
}

func main() {
	client := &http.Client{Timeout: 30 * time.Second}
	for _, url := range []string{
		"http://www.example.test/bytes/100000", "https://www.example.test/bytes/100000",
		"http://v6.example.test/bytes/1000", "http://203.0.113.90/bytes/1000",
		"http://[2001:db8::90]/bytes/1000"} {
		fmt.Println(url, get(client, url))
	}
	var total atomic.Int64
	var group sync.WaitGroup
	for number := 0; number < 40; number++ {
		group.Add(1)
		go func(number int) {
			defer group.Done()
			total.Add(get(client, fmt.Sprintf("http://n%d.example.test/slow/1000", number)))
		}(number)
	}
	group.Wait()
	fmt.Println("together", total.Load())
	connection, err := net.Dial("tcp", "ssh.example.test:22")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	greeting := make([]byte, 4)
	_, err = io.ReadFull(connection, greeting)
	fmt.Println("greeting", string(greeting), err)
}
