// signals server: counts on ports 5000 of TCP and UDP what comes, until its standard input ends.
// signals client ADDRESS CALLS: makes so many connections and sends so many datagrams, each with a
// number, under Go's own SIGURG and one thread that sends SIGURG to all others. Both print one line
// of JSON.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const port = 5000

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// How often each number came.
type seen struct {
	lock  sync.Mutex
	times map[uint32]int
}

func (s *seen) add(number uint32) {
	s.lock.Lock()
	s.times[number]++
	s.lock.Unlock()
}

func (s *seen) count() (once, more int) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, times := range s.times {
		if times == 1 {
			once++
		} else {
			more++
		}
	}
	return
}

func server() {
	tcp, udp := seen{times: map[uint32]int{}}, seen{times: map[uint32]int{}}
	var accepted int64
	listener, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
	check(err)
	packets, err := net.ListenUDP("udp4", &net.UDPAddr{Port: port})
	check(err)
	raw, err := packets.SyscallConn()
	check(err)
	check(raw.Control(func(fd uintptr) {
		const receiveBufferForce = 33 // SO_RCVBUFFORCE
		check(syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, receiveBufferForce, 64<<20))
	}))
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			atomic.AddInt64(&accepted, 1)
			go func() {
				defer connection.Close()
				var number [4]byte
				if _, err := io.ReadFull(connection, number[:]); err == nil {
					tcp.add(binary.BigEndian.Uint32(number[:]))
					connection.Write(number[:1])
					io.Copy(io.Discard, connection)
				}
			}()
		}
	}()
	go func() {
		buffer := make([]byte, 64)
		for {
			if length, _, err := packets.ReadFromUDP(buffer); err == nil && length == 4 {
				udp.add(binary.BigEndian.Uint32(buffer))
			}
		}
	}()
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	time.Sleep(300 * time.Millisecond)
	connections, connectionsMore := tcp.count()
	datagrams, datagramsMore := udp.count()
	check(json.NewEncoder(os.Stdout).Encode(map[string]int{
		"accepted": int(atomic.LoadInt64(&accepted)), "connections": connections,
		"connections_more": connectionsMore, "datagrams": datagrams, "datagrams_more": datagramsMore}))
}

// Sends SIGURG to every other thread of this process again and again.
func storm(stop *int32, sent *int64) {
	runtime.LockOSThread()
	self := syscall.Gettid()
	for atomic.LoadInt32(stop) == 0 {
		tasks, err := os.ReadDir("/proc/self/task")
		check(err)
		for round := 0; round < 200 && atomic.LoadInt32(stop) == 0; round++ {
			for _, task := range tasks {
				if tid, _ := strconv.Atoi(task.Name()); tid != self {
					syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(os.Getpid()), uintptr(tid), uintptr(syscall.SIGURG))
					atomic.AddInt64(sent, 1)
				}
			}
			time.Sleep(20 * time.Microsecond)
		}
	}
}

// Go's sockets do not block; every second connection is made by a blocking one.
func connect(address [4]byte, number uint32, dialer *net.Dialer) error {
	var payload, answer [4]byte
	binary.BigEndian.PutUint32(payload[:], number)
	if number%2 == 0 {
		connection, err := dialer.Dial("tcp4", fmt.Sprintf("%s:%d", net.IP(address[:]), port))
		if err != nil {
			return err
		}
		defer connection.Close()
		connection.(*net.TCPConn).SetLinger(0)
		if _, err := connection.Write(payload[:]); err != nil {
			return err
		}
		_, err = io.ReadFull(connection, answer[:1])
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: address}); err != nil {
		return err
	}
	check(syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1}))
	if _, err := syscall.Write(fd, payload[:]); err != nil {
		return err
	}
	for {
		_, err := syscall.Read(fd, answer[:1])
		if err != syscall.EINTR {
			return err
		}
	}
}

func client(text string, calls int) {
	runtime.GOMAXPROCS(4)
	var address [4]byte
	copy(address[:], net.ParseIP(text).To4())
	var stop int32
	var sent, spun, done, datagrams int64
	var lock sync.Mutex
	errors := map[string]int{}
	note := func(what string, err error) {
		lock.Lock()
		errors[what+": "+err.Error()]++
		lock.Unlock()
	}
	go storm(&stop, &sent)
	go func() { // what the scheduler has to interrupt
		for atomic.LoadInt32(&stop) == 0 {
			for i := 0; i < 1000000; i++ {
				spun++
			}
		}
	}()
	var workers sync.WaitGroup
	dialer := net.Dialer{}
	const count = 4
	for worker := 0; worker < count; worker++ {
		workers.Add(1)
		go func(worker int) {
			defer workers.Done()
			packets, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
			check(err)
			defer syscall.Close(packets)
			for number := worker; number < calls; number += count {
				if err := connect(address, uint32(number), &dialer); err != nil {
					note("connection", err)
				} else {
					atomic.AddInt64(&done, 1)
				}
				var payload [4]byte
				binary.BigEndian.PutUint32(payload[:], uint32(number))
				if err := syscall.Sendto(packets, payload[:], 0, &syscall.SockaddrInet4{Port: port, Addr: address}); err != nil {
					note("sendto", err)
				} else {
					atomic.AddInt64(&datagrams, 1)
				}
			}
		}(worker)
	}
	workers.Wait()
	atomic.StoreInt32(&stop, 1)
	check(json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"connections": done, "datagrams": datagrams, "errors": errors, "signals": sent}))
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "server" {
		server()
		return
	}
	calls, err := strconv.Atoi(os.Args[3])
	check(err)
	client(os.Args[2], calls)
}
