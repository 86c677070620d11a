// Java NIO: a selector that serves a hundred non-blocking channels and another that is their client,
// datagram and unix channels, the HTTP client with its own selector thread, and blocking streams.
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.ConnectException;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.StandardProtocolFamily;
import java.net.URI;
import java.net.UnixDomainSocketAddress;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.DatagramChannel;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;

public class Nio {
  private static final int CLIENTS = 100;
  private static final int SIZE = 20000;

  // Echoes until `CLIENTS` connections have ended.
  private static void serve(ServerSocketChannel server) {
    try (Selector selector = Selector.open()) {
      server.configureBlocking(false);
      server.register(selector, SelectionKey.OP_ACCEPT);
      ByteBuffer buffer = ByteBuffer.allocate(65536);
      for (int ended = 0; ended < CLIENTS;) {
        selector.select();
        for (SelectionKey key : selector.selectedKeys()) {
          if (key.isAcceptable()) {
            for (SocketChannel peer; (peer = server.accept()) != null;) {
              peer.configureBlocking(false);
              peer.register(selector, SelectionKey.OP_READ);
            }
          } else if (((SocketChannel) key.channel()).read(buffer.clear()) < 0) {
            key.channel().close();
            ++ended;
          } else {
            buffer.flip();
            while (buffer.hasRemaining()) {
              ((SocketChannel) key.channel()).write(buffer);
            }
          }
        }
        selector.selectedKeys().clear();
      }
    } catch (IOException error) {
      throw new java.io.UncheckedIOException(error);
    }
  }

  private static long selectors() throws Exception {
    ServerSocketChannel server = ServerSocketChannel.open();
    server.bind(new InetSocketAddress("localhost", 0), 512);
    Thread serving = new Thread(() -> serve(server));
    serving.start();
    long total = 0;
    try (Selector selector = Selector.open()) {
      for (int client = 0; client < CLIENTS; ++client) {
        SocketChannel channel = SocketChannel.open();
        channel.configureBlocking(false);
        boolean connected = channel.connect(server.getLocalAddress());
        channel.register(selector, connected ? SelectionKey.OP_WRITE : SelectionKey.OP_CONNECT,
                         ByteBuffer.allocate(SIZE));
      }
      ByteBuffer sink = ByteBuffer.allocate(65536);
      while (total < (long) CLIENTS * SIZE) {
        selector.select();
        for (SelectionKey key : selector.selectedKeys()) {
          SocketChannel channel = (SocketChannel) key.channel();
          if (key.isConnectable() && channel.finishConnect()) {
            key.interestOps(SelectionKey.OP_WRITE);
          } else if (key.isWritable()) {
            ByteBuffer left = (ByteBuffer) key.attachment();
            channel.write(left);
            if (!left.hasRemaining()) {
              channel.shutdownOutput();
            }
            key.interestOps(left.hasRemaining() ? SelectionKey.OP_WRITE | SelectionKey.OP_READ
                                                : SelectionKey.OP_READ);
          } else if (key.isReadable()) {
            int got = channel.read(sink.clear());
            if (got < 0) {
              channel.close();
            } else {
              total += got;
            }
          }
        }
        selector.selectedKeys().clear();
      }
    }
    serving.join();
    server.close();
    return total;
  }

  private static long datagrams() throws IOException {
    long total = 0;
    try (DatagramChannel server = DatagramChannel.open().bind(new InetSocketAddress("127.0.0.1", 0));
         DatagramChannel client = DatagramChannel.open();
         DatagramChannel connected = DatagramChannel.open().connect(server.getLocalAddress())) {
      ByteBuffer buffer = ByteBuffer.allocate(2000);
      for (int round = 0; round < 50; ++round) {
        client.send(ByteBuffer.allocate(1000), server.getLocalAddress());
        server.send(ByteBuffer.allocate(1000), server.receive(buffer.clear()));
        client.receive(buffer.clear());
        total += buffer.position();
        connected.write(ByteBuffer.allocate(1000));
        server.receive(buffer.clear());
        total += buffer.position();
      }
    }
    return total;
  }

  private static int unix() throws IOException {
    UnixDomainSocketAddress address = UnixDomainSocketAddress.of(Path.of("/tmp/work/java.sock"));
    try (ServerSocketChannel server = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
      server.bind(address);
      try (SocketChannel client = SocketChannel.open(address); SocketChannel peer = server.accept()) {
        client.write(ByteBuffer.allocate(1000));
        return peer.read(ByteBuffer.allocate(2000));
      }
    }
  }

  private static String http(HttpServer server) throws Exception {
    URI uri = URI.create("http://localhost:" + server.getAddress().getPort() + "/");
    HttpClient client = HttpClient.newHttpClient();
    List<CompletableFuture<HttpResponse<byte[]>>> answers = new ArrayList<>();
    for (int request = 0; request < CLIENTS; ++request) {
      answers.add(client.sendAsync(HttpRequest.newBuilder(uri).build(),
                                   HttpResponse.BodyHandlers.ofByteArray()));
    }
    long total = 0;
    for (CompletableFuture<HttpResponse<byte[]>> answer : answers) {
      total += answer.get().body().length;
    }
    HttpURLConnection blocking = (HttpURLConnection) uri.toURL().openConnection();
    return total + " " + blocking.getInputStream().readAllBytes().length;
  }

  public static void main(String[] args) throws Exception {
    System.out.println("selectors " + selectors());
    System.out.println("datagrams " + datagrams());
    System.out.println("unix " + unix());
    HttpServer server = HttpServer.create(new InetSocketAddress("localhost", 0), 512);
    server.setExecutor(Executors.newFixedThreadPool(8));
    server.createContext("/", exchange -> {
      exchange.sendResponseHeaders(200, SIZE);
      exchange.getResponseBody().write(new byte[SIZE]);
      exchange.close();
    });
    server.start();
    System.out.println("http " + http(server));
    server.stop(0);
    try (SocketChannel channel = SocketChannel.open(new InetSocketAddress("127.0.0.1", 1))) {
      System.out.println("connected");
    } catch (ConnectException error) {
      System.out.println("refused " + error.getMessage());
    }
    HttpURLConnection far = (HttpURLConnection) URI.create(
        "http://" + System.getenv("OAKUM_FAR") + ":8080/bytes/100000").toURL().openConnection();
    System.out.println("far " + far.getInputStream().readAllBytes().length);
    for (InetAddress address : InetAddress.getAllByName("localhost")) {
      System.out.println("localhost " + address.getHostAddress());
    }
    System.exit(0);
  }
}
