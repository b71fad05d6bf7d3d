package demo;

import org.springframework.beans.factory.annotation.Value;
import org.springframework.core.NestedExceptionUtils;
import org.springframework.http.HttpStatus;
import org.springframework.web.bind.annotation.ExceptionHandler;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.ResponseStatus;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.client.RestClient;
import org.springframework.web.client.RestClientException;

@RestController
class HelloController {
    /** What a server answers: who it is, and its words. */
    record Hello(String endpoint, String text) {}

    private final RestClient servers;
    private final String defaultAddress;

    HelloController(RestClient servers, @Value("${server-address}") String defaultAddress) {
        this.servers = servers;
        this.defaultAddress = defaultAddress;
    }

    /** Asks the server at {@code address}, a host or {@code host:port}; none is the default one. */
    @GetMapping(path = "/hello", produces = "text/plain")
    String hello(@RequestParam(defaultValue = "") String address) {
        String server = address.isBlank() ? defaultAddress : address;
        Hello hello = servers.get().uri("http://" + server + "/hello").retrieve().body(Hello.class);
        return "Greetings from " + hello.endpoint() + " : " + hello.text();
    }

    @ExceptionHandler(RestClientException.class)
    @ResponseStatus(HttpStatus.BAD_GATEWAY)
    String noGreeting(RestClientException why) {
        return "no greeting: " + NestedExceptionUtils.getMostSpecificCause(why);
    }
}
