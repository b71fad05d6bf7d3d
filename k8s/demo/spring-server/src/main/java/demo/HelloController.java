package demo;

import jakarta.servlet.http.HttpServletRequest;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

@RestController
class HelloController {
    /** Who answers, and what. */
    record Hello(String endpoint, String text) {}

    private final Identity identity;

    HelloController(Identity identity) {
        this.identity = identity;
    }

    @GetMapping("/hello")
    Hello hello(HttpServletRequest request) {
        String endpoint = identity.endpoint(request.getLocalAddr(), request.getLocalPort());
        return new Hello(endpoint, "hello, spring-server " + identity.version() + " of " + identity.namespace());
    }
}
