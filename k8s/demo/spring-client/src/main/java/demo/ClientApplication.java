package demo;

import java.time.Duration;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.http.HttpHeaders;
import org.springframework.http.client.SimpleClientHttpRequestFactory;
import org.springframework.web.client.RestClient;

@SpringBootApplication
public class ClientApplication {
    public static void main(String[] arguments) {
        SpringApplication.run(ClientApplication.class, arguments);
    }

    /** A connection for each request: endpoints are chosen when a connection is made. */
    @Bean
    RestClient servers() {
        var connections = new SimpleClientHttpRequestFactory();
        connections.setConnectTimeout(Duration.ofSeconds(3));
        connections.setReadTimeout(Duration.ofSeconds(5));
        return RestClient.builder()
                .requestFactory(connections)
                .defaultHeader(HttpHeaders.CONNECTION, "close")
                .build();
    }
}
