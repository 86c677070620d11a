// Java: its own resolver and blocking streams, and the HTTP client with its selector.
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.Socket;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

public class Client {
  public static void main(String[] args) throws Exception {
    for (String url : new String[] {"http://www.example.test/bytes/100000",
             "http://v6.example.test/bytes/1000", "http://203.0.113.90/bytes/1000"}) {
      HttpURLConnection connection = (HttpURLConnection) new URL(url).openConnection();
      try (InputStream in = connection.getInputStream()) {
        System.out.println(url + " " + in.readAllBytes().length);
      }
    }
    HttpClient client = HttpClient.newHttpClient();
    List<CompletableFuture<HttpResponse<String>>> waiting = new ArrayList<>();
    for (int n = 0; n < 20; ++n) {
      waiting.add(client.sendAsync(
          HttpRequest.newBuilder(URI.create("http://n" + n + ".example.test/slow/1000"))
              .version(HttpClient.Version.HTTP_1_1).build(),
          HttpResponse.BodyHandlers.ofString()));
    }
    int total = 0;
    for (CompletableFuture<HttpResponse<String>> one : waiting) {
      total += one.get().body().length();
    }
    System.out.println("together " + total);
    try (Socket socket = new Socket("ssh.example.test", 22)) {
      System.out.println("greeting " + new String(socket.getInputStream().readNBytes(4)));
    }
  }
}
