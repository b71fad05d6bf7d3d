import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Client URL COUNT: prints the body of each answer, each of a client of its own. */
class Client {
    public static void main(String[] arguments) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(arguments[0])).build();
        for (int n = 0; n < Integer.parseInt(arguments[1]); n++) {
            System.out.print(HttpClient.newHttpClient().send(request, BodyHandlers.ofString()).body());
        }
    }
}
