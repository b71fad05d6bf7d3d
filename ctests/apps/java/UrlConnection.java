import java.net.HttpURLConnection;
import java.net.URI;

/** UrlConnection URL COUNT: prints the body of each answer. */
class UrlConnection {
    public static void main(String[] arguments) throws Exception {
        System.setProperty("http.keepAlive", "false");
        for (int n = 0; n < Integer.parseInt(arguments[1]); n++) {
            var connection = (HttpURLConnection) URI.create(arguments[0]).toURL().openConnection();
            try (var body = connection.getInputStream()) {
                System.out.print(new String(body.readAllBytes()));
            }
        }
    }
}
